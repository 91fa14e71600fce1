// What this compiler's headers ask of the C and C++ libraries, and those of glibc 2.28, on which PyTorch's wheels run, do
// not have yet. A library that brings it along runs there, however new the system it was built on.
#include <new>
#include <sstream>
#include <string>

#if defined(__GLIBC__)

// glibc 2.32: whether a shared_ptr may count without atomics. Never.
extern "C" __attribute__((visibility("hidden"))) char __libc_single_threaded;
char __libc_single_threaded = 0;

#if defined(__x86_64__)
// glibc 2.29: a pow without the error handling of old, which is off in the old one. The numbers are the same.
extern "C" double pow_of_any_glibc(double base, double exponent);
__asm__(".symver pow_of_any_glibc, pow@GLIBC_2.2.5");
// By another name than the one that the compiler knows already, and would export.
extern "C" __attribute__((visibility("hidden"))) double brought_pow(double base, double exponent) __asm__("pow");
double brought_pow(double base, double exponent) { return pow_of_any_glibc(base, exponent); }
#endif

#endif

#if defined(__GLIBCXX__) && _GLIBCXX_RELEASE >= 11

// GLIBCXX_3.4.26
template std::basic_ostringstream<char>::basic_ostringstream();
template std::basic_stringstream<char>::basic_stringstream();
// GLIBCXX_3.4.29
template std::string std::basic_stringbuf<char>::str() const&;
template std::string std::basic_stringbuf<char>::str() &&;
namespace std {
void __throw_bad_array_new_length() { throw bad_array_new_length(); }
}  // namespace std

#endif
