# Fails when the object of an instruction set defines a weak symbol outside its own namespace. The linker keeps one copy
# of a weak function, from whichever object comes first: were it the AVX-512 one, older machines would run it and die.
#
#   cmake -DNM=nm "-DISAS=baseline;avx2" "-DOBJECTS=.../top_k_avx2.cpp.o;..." -P isa_symbols.cmake

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
  set(objects ${OBJECTS})
  list(FILTER objects INCLUDE REGEX "_${isa}\\.")
  if(NOT objects)
    message(FATAL_ERROR "${isa}: no object among ${OBJECTS}")
  endif()
  # Mangled names: _ZN, for what is local to a function _ZZN, for its guard _ZGVZN.
  string(LENGTH "${isa}" length)
  set(own "^_Z(GV)?Z?NK?9rarepixel${length}${isa}[0-9]")
  set(mine_count 0)
  foreach(object IN LISTS objects)
    weak_symbols("${object}" weak all)
    set(mine ${weak})
    list(FILTER mine INCLUDE REGEX "${own}")
    list(LENGTH mine count)
    math(EXPR mine_count "${mine_count} + ${count}")
    set(foreign ${weak})
    list(FILTER foreign EXCLUDE REGEX "${own}")
    foreach(symbol IN LISTS foreign)
      message(SEND_ERROR "${isa}: weak outside rarepixel::${isa} in ${object}: ${symbol}")
    endforeach()
  endforeach()
  list(LENGTH objects object_count)
  message(STATUS "${isa}: ${mine_count} weak symbols of its own in ${object_count} objects")
  if(mine_count EQUAL 0)
    message(SEND_ERROR "${isa}: none of the kernels is defined in ${objects}, so this looked at nothing")
  endif()
endforeach()
if(NOT ISAS)
  message(FATAL_ERROR "no instruction set was named")
endif()
