// Checks for the test programs: a failed one prints where it stands and the values it is about.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <source_location>
#include <type_traits>

namespace rarepixel::test {

// A check's text, and the line that it stands in.
struct What {
  const char* text;
  std::source_location where;
  What(const char* about, std::source_location from = std::source_location::current()) : text(about), where(from) {}
};

template <class T>
void print_value(const T& value) {
  if constexpr (std::is_floating_point_v<T>) {
    std::printf(" %.17Lg (%La)", static_cast<long double>(value), static_cast<long double>(value));
  } else if constexpr (std::is_enum_v<T>) {
    std::printf(" %d", static_cast<int>(value));
  } else if constexpr (std::is_unsigned_v<T>) {
    std::printf(" %#" PRIx64, static_cast<std::uint64_t>(value));
  } else if constexpr (std::is_integral_v<T>) {
    std::printf(" %" PRId64, static_cast<std::int64_t>(value));
  } else {
    std::printf(" %s", value);
  }
}

class Checks {
 public:
  template <class... Values>
  bool operator()(bool passed, What what, const Values&... values) {
    ++made_;
    if (!passed) [[unlikely]] {
      // One broken coefficient fails a million checks: the first ones tell enough.
      if (++failed_ <= kPrinted) report(what, values...);
    }
    return passed;
  }

  // Whether a check failed after `earlier`, and its report was printed.
  bool reported_since(std::uint64_t earlier) const { return earlier < failed_ && earlier < kPrinted; }
  std::uint64_t failed() const { return failed_; }

  // What main() returns. A program that checked nothing has failed.
  int result() const {
    std::printf("%" PRIu64 " checks, %" PRIu64 " failed\n", made_, failed_);
    return made_ > 0 && failed_ == 0 ? 0 : 1;
  }

 private:
  static constexpr std::uint64_t kPrinted = 25;

  template <class... Values>
  [[gnu::noinline]] static void report(const What& what, const Values&... values) {
    std::printf("%s:%d: %s:", what.where.file_name(), static_cast<int>(what.where.line()), what.text);
    (print_value(values), ...);
    std::printf("\n");
  }

  std::uint64_t made_ = 0, failed_ = 0;
};

inline Checks check;

}  // namespace rarepixel::test
