// The SIMD half of connected components (../components.h): runs of packed bits and a union-find over them.
//
// He, Chao and Suzuki, "A Run-Based Two-Scan Labeling Algorithm", IEEE TIP 2008, on strips of rows instead of rows; the
// union-find is Rem's (Dijkstra, A Discipline of Programming, 1976), found the fastest by Patwary, Blair and Manne,
// "Experiments on Union-Find Algorithms for the Disjoint-Set Data Structure", SEA 2010.
#pragma once

#include "../components.h"
#include "blocks.h"

namespace rarepixel::RAREPIXEL_ISA {

RAREPIXEL_INLINE int ones(std::uint64_t bits) { return __builtin_popcountll(bits); }

// Calls run(the bits up to this one) for each bit that is set.
template <class Run>
RAREPIXEL_INLINE void for_each_bit(std::uint64_t bits, const Run& run) {
  for (; bits != 0; bits &= bits - 1) run(bits ^ (bits - 1));
}

// ---- Runs ----

inline std::int64_t find_runs(const ComponentsProblem& problem) {
  const std::int64_t words = problem.words(), rows_of_strip = problem.rows_of_strip();
  const std::int64_t rows = problem.extent.rows, columns = problem.extent.columns;
  const std::uint8_t* pixels = problem.image;
  std::uint64_t* row = problem.bits;
  std::uint64_t* starts = problem.starts;
  std::int32_t runs = 0;
  for (std::int64_t strip = 0; strip < problem.strips(); ++strip, starts += words) {
    problem.first_runs[strip] = runs;
    pack_row(pixels, columns, row);
    pixels += columns;
    const std::uint64_t* const top = row;
    if (rows_of_strip == 2) {
      row += words;
      if (strip % problem.strips_of_plane() * 2 + 1 < rows) {
        pack_row(pixels, columns, row);
        pixels += columns;
      } else {
        for (std::int64_t w = 0; w < words; ++w) row[w] = 0;
      }
    }
    std::uint64_t before = 0;
    for (std::int64_t w = 0; w < words; ++w) {
      const std::uint64_t set = top[w] | row[w];
      starts[w] = set & ~(set << 1 | before >> 63);
      runs += ones(starts[w]);
      before = set;
    }
    row += words;
  }
  problem.first_runs[problem.strips()] = runs;
  return runs;
}

// Pixels of a strip: one of its rows, or both as one.
struct StripRow {
  const std::uint64_t *one, *other;  // [words]
  const std::uint64_t* starts;       // [words], of the strip's runs
  std::int32_t first_run, runs;      // of the strip
};

enum class RowsOf { kFirst, kLast, kAll };

RAREPIXEL_INLINE StripRow row_of(const ComponentsProblem& problem, std::int64_t strip, RowsOf which) {
  const std::int64_t words = problem.words();
  const std::uint64_t* const first = problem.bits + strip * problem.rows_of_strip() * words;
  const std::uint64_t* const last = first + (problem.rows_of_strip() - 1) * words;
  const std::int32_t run = problem.first_runs[strip];
  return {which == RowsOf::kLast ? last : first, which == RowsOf::kFirst ? first : last, problem.starts + strip * words,
          run, problem.first_runs[strip + 1] - run};
}

// ---- Union-find ----

// Runs point to themselves or to earlier ones.
RAREPIXEL_INLINE void unite(std::int32_t* runs, std::int32_t a, std::int32_t b) {
  while (runs[a] != runs[b]) {
    if (runs[a] < runs[b]) {
      const std::int32_t other = a;
      a = b;
      b = other;
    }
    const std::int32_t above = runs[a];
    runs[a] = runs[b];
    if (a == above) return;
    a = above;
  }
}

// Unites runs of two strips where pixels of these rows meet.
template <bool kAtCorners>
inline void join(const StripRow& upper, const StripRow& lower, std::int64_t words, std::int32_t* runs) {
  if (upper.runs == 0 || lower.runs == 0) return;
  std::int32_t last_upper = upper.first_run - 1, last_lower = lower.first_run - 1;  // that started before the word
  std::uint64_t upper_before = 0, lower_before = 0;
  for (std::int64_t w = 0; w < words; ++w) {
    const std::uint64_t in_upper = upper.one[w] | upper.other[w], in_lower = lower.one[w] | lower.other[w];
    const std::uint64_t upper_starts = upper.starts[w], lower_starts = lower.starts[w];
    const std::uint64_t met = meetings<std::uint64_t>({in_upper, in_upper << 1 | upper_before >> 63},
                                                      {in_lower, in_lower << 1 | lower_before >> 63}, kAtCorners);
    for_each_bit(
        met, [&](std::uint64_t up_to) __attribute__((always_inline)) {
          unite(runs, last_lower + ones(lower_starts & up_to), last_upper + ones(upper_starts & up_to));
        });
    last_upper += ones(upper_starts);
    last_lower += ones(lower_starts);
    upper_before = in_upper;
    lower_before = in_lower;
  }
}

inline void join_strips(const ComponentsProblem& problem) {
  const std::int64_t words = problem.words(), of_plane = problem.strips_of_plane();
  std::int32_t* const runs = problem.runs;
  const auto row = [&](std::int64_t strip, RowsOf which) __attribute__((always_inline)) {
    return row_of(problem, strip, which);
  };
  for (std::int64_t strip = 0; strip < problem.strips(); ++strip) {
    if (problem.first_runs[strip] == problem.first_runs[strip + 1]) continue;
    const StripRow first = row(strip, RowsOf::kFirst), last = row(strip, RowsOf::kLast), all = row(strip, RowsOf::kAll);
    const bool has_north = strip % of_plane > 0, has_south = (strip + 1) % of_plane > 0;
    if (has_north) {
      if (problem.connectivity == Connectivity::kSides) join<false>(row(strip - 1, RowsOf::kAll), all, words, runs);
      else join<true>(row(strip - 1, RowsOf::kLast), first, words, runs);
    }
    const std::int64_t above = strip - of_plane;  // in the plane before
    if (above < 0) continue;
    switch (problem.connectivity) {
      case Connectivity::kSides: join<false>(row(above, RowsOf::kAll), all, words, runs); break;
      case Connectivity::kEdges:
        join<true>(row(above, RowsOf::kFirst), first, words, runs);
        join<true>(row(above, RowsOf::kLast), last, words, runs);
        join<false>(row(above, RowsOf::kAll), all, words, runs);
        if (has_north) join<false>(row(above - 1, RowsOf::kLast), first, words, runs);
        if (has_south) join<false>(row(above + 1, RowsOf::kFirst), last, words, runs);
        break;
      case Connectivity::kCorners:
        join<true>(row(above, RowsOf::kAll), all, words, runs);
        if (has_north) join<true>(row(above - 1, RowsOf::kLast), first, words, runs);
        if (has_south) join<true>(row(above + 1, RowsOf::kFirst), last, words, runs);
        break;
    }
  }
}

// ---- Labels ----

// From what runs point to, to their labels, strip by strip. In a strip of two rows components that begin there are
// numbered in the order of their first pixels in its first row, and then the others in that of the runs. While a
// strip is worked on, ~root stands for a root in it.
inline std::int32_t number_runs(const ComponentsProblem& problem) {
  std::int32_t* const runs = problem.runs;
  std::int32_t count = 0;
  const auto number = [&](std::int32_t run) __attribute__((always_inline)) {
    if (runs[run] > 0) return;
    const std::int32_t root = ~runs[run];
    if (runs[root] < 0) runs[root] = ++count;
    runs[run] = runs[root];
  };
  for (std::int64_t strip = 0; strip < problem.strips(); ++strip) {
    const std::int32_t first = problem.first_runs[strip], last = problem.first_runs[strip + 1];
    std::int32_t roots = 0;
    for (std::int32_t run = first; run < last; ++run) {
      const std::int32_t to = runs[run];
      roots += to == run;
      runs[run] = to == run ? ~run : runs[to];
    }
    if (roots == 0) continue;
    if (roots > 1 && problem.rows_of_strip() == 2) {
      const StripRow row = row_of(problem, strip, RowsOf::kFirst);
      std::int32_t last_run = first - 1;
      std::uint64_t before = 0;
      for (std::int64_t w = 0; w < problem.words(); ++w) {
        const std::uint64_t set = row.one[w];
        for_each_bit(
            set & ~(set << 1 | before >> 63), [&](std::uint64_t up_to) __attribute__((always_inline)) {
              number(last_run + ones(row.starts[w] & up_to));
            });
        last_run += ones(row.starts[w]);
        before = set;
      }
    }
    for (std::int32_t run = first; run < last; ++run) number(run);
  }
  return count;
}

// How many of eight bits are set up to each of them.
struct RunsOfByte {
  alignas(8) std::uint8_t up_to[256][8];

  constexpr RunsOfByte() : up_to() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int i = 0; i < 8; ++i)
        up_to[byte][i] = static_cast<std::uint8_t>((i > 0 ? up_to[byte][i - 1] : 0) + (byte >> i & 1));
    }
  }
};
inline constexpr RunsOfByte kRunsOfByte;

// `label` is that of the last run that started before the row: the labels of its runs follow.
inline void write_row(const std::uint64_t* bits, const std::uint64_t* starts, const std::int32_t* label,
                      std::int64_t columns, std::int32_t* to) {
  std::int64_t word = 0;
  for (std::int64_t done = 0; done < columns;) {
    std::int64_t end = done;
    for (; end < columns && bits[word] == 0; ++word, end += kWord) label += ones(starts[word]);
    end = smaller(end, columns);
    if (end > done) memset(to + done, 0, (end - done) * sizeof *to);
    done = end;
    if (done == columns) return;
    std::uint64_t set = bits[word], started = starts[word];
    ++word;
    for (end = smaller(done + kWord, columns); done < end; done += 8, set >>= 8, started >>= 8) {
      const std::uint8_t* const places = kRunsOfByte.up_to[started & 0xff];
      if (done + 8 <= end) {
        store_picked(to + done, label, places, set & 0xff);
      } else {
        for (std::int64_t i = 0; done + i < end; ++i) to[done + i] = set >> i & 1 ? label[places[i]] : 0;
      }
      label += places[7];
    }
    done = end;
  }
}

inline std::int64_t label_components(const ComponentsProblem& problem) {
  const std::int32_t runs = problem.first_runs[problem.strips()];
  for (std::int32_t run = 0; run < runs; ++run) problem.runs[run] = run;
  join_strips(problem);
  const std::int32_t count = number_runs(problem);
  const std::int64_t rows_of_strip = problem.rows_of_strip(), rows = problem.extent.rows, words = problem.words();
  std::int32_t* to = problem.labels;
  for (std::int64_t strip = 0; strip < problem.strips(); ++strip) {
    const std::int64_t first = strip % problem.strips_of_plane() * rows_of_strip;
    for (std::int64_t row = 0; row < rows_of_strip && first + row < rows; ++row) {
      write_row(problem.bits + (strip * rows_of_strip + row) * words, problem.starts + strip * words,
                problem.runs + problem.first_runs[strip] - 1, problem.extent.columns, to);
      to += problem.extent.columns;
    }
  }
  return count;
}

template <>
ComponentsKernels kernels<ComponentsKernels>() {
  return {&find_runs, &label_components};
}

}  // namespace rarepixel::RAREPIXEL_ISA
