// Just enough of Caffe, under its own names, to compile and run single layers on the CPU: no protobuf, glog or boost.
// A failed check throws instead of ending the process.
#ifndef CAFFE_COMMON_HPP_
#define CAFFE_COMMON_HPP_

#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#define DISABLE_COPY_AND_ASSIGN(classname) \
 private:                                  \
  classname(const classname&);             \
  classname& operator=(const classname&)

#define INSTANTIATE_CLASS(classname) \
  template class classname<float>;   \
  template class classname<double>

namespace caffe {

using std::shared_ptr;
using std::string;
using std::vector;

class CheckError : public std::runtime_error {
 public:
  explicit CheckError(const string& what) : std::runtime_error(what) {}
};

// The text of a failed check, as it is written.
class Failure {
 public:
  Failure(const char* file, int line) {
    text_ << string(file).substr(string(file).rfind('/') + 1) << ':' << line << ": ";
  }
  template <typename T>
  Failure& operator<<(const T& part) {
    text_ << part;
    return *this;
  }
  string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

// `&` comes after `<<`, so this throws when the text is complete.
struct Throw {
  [[noreturn]] void operator&(const Failure& failure) const { throw CheckError(failure.text()); }
};

class Caffe {
 public:
  static void set_random_seed(unsigned int seed) { generator().seed(seed); }
  // Seeded by chance until somebody sets a seed.
  static std::mt19937& generator();
};

}  // namespace caffe

#define CAFFE_MINI_FAIL ::caffe::Throw() & ::caffe::Failure(__FILE__, __LINE__)
#define CAFFE_MINI_CHECK_OP(a, op, b) \
  (a) op(b) ? (void)0 : CAFFE_MINI_FAIL << "Check failed: " #a " " #op " " #b " (" << (a) << " vs. " << (b) << ") "

#define LOG(severity) CAFFE_MINI_LOG_##severity
#define CAFFE_MINI_LOG_FATAL CAFFE_MINI_FAIL

#define CHECK(condition) (condition) ? (void)0 : CAFFE_MINI_FAIL << "Check failed: " #condition " "
#define CHECK_EQ(a, b) CAFFE_MINI_CHECK_OP(a, ==, b)
#define CHECK_NE(a, b) CAFFE_MINI_CHECK_OP(a, !=, b)
#define CHECK_LT(a, b) CAFFE_MINI_CHECK_OP(a, <, b)
#define CHECK_LE(a, b) CAFFE_MINI_CHECK_OP(a, <=, b)
#define CHECK_GT(a, b) CAFFE_MINI_CHECK_OP(a, >, b)
#define CHECK_GE(a, b) CAFFE_MINI_CHECK_OP(a, >=, b)

#endif  // CAFFE_COMMON_HPP_
