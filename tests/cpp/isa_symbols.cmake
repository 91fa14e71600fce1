# Fails when the object of an instruction set defines a weak symbol outside its own namespace. The linker keeps one copy
# of a weak function, from whichever object comes first: were it the AVX-512 one, older machines would run it and die.
#
#   cmake -DNM=nm "-DISAS=baseline;avx2" "-DOBJECTS=.../isa_avx2.cpp.o;..." -P isa_symbols.cmake

# Lists in `result` the weak and unique symbols that `object` defines; `all` counts every defined symbol.
function(weak_symbols object result all)
  execute_process(COMMAND "${NM}" -P --defined-only "${object}"
    OUTPUT_VARIABLE listing ERROR_VARIABLE error RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${NM} ${object}: ${error}")
  endif()
  string(REGEX MATCHALL "[^\n]+" lines "${listing}")
  list(LENGTH lines count)
  list(FILTER lines INCLUDE REGEX "^[^ ]+ [WVu]( |$)")
  list(TRANSFORM lines REPLACE " .*" "")
  # A pointer that the compiler makes for exception tables: data, the same in every object.
  list(FILTER lines EXCLUDE REGEX "^DW\\.ref\\.")
  set(${result} "${lines}" PARENT_SCOPE)
  set(${all} ${count} PARENT_SCOPE)
endfunction()

foreach(isa IN LISTS ISAS)
  set(object ${OBJECTS})
  list(FILTER object INCLUDE REGEX "/isa_${isa}\\.")
  list(LENGTH object found)
  if(NOT found EQUAL 1)
    message(FATAL_ERROR "${isa}: expected one object among ${OBJECTS}, found ${found}")
  endif()
  weak_symbols("${object}" weak all)

  # Mangled names: _ZN, for what is local to a function _ZZN, for its guard _ZGVZN.
  string(LENGTH "${isa}" length)
  set(own "^_Z(GV)?Z?NK?9rarepixel${length}${isa}[0-9]")
  set(mine ${weak})
  list(FILTER mine INCLUDE REGEX "${own}")
  set(foreign ${weak})
  list(FILTER foreign EXCLUDE REGEX "${own}")

  list(LENGTH mine mine_count)
  message(STATUS "${isa}: ${all} symbols, ${mine_count} weak ones of its own")
  if(mine_count EQUAL 0)
    message(SEND_ERROR "${isa}: none of the kernels is defined in ${object}, so this looked at nothing")
  endif()
  foreach(symbol IN LISTS foreign)
    message(SEND_ERROR "${isa}: weak outside rarepixel::${isa}: ${symbol}")
  endforeach()
endforeach()
if(NOT ISAS)
  message(FATAL_ERROR "no instruction set was named")
endif()
