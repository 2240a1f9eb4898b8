// Matrix products of mixture-of-experts training: own kernels and, when they were found, oneDNN and OpenBLAS, in
// alternation in one run, as shares of the FP32 peak that the same run measures.
//
//   bench_gemm [--threads N] [--rounds N] [--isa portable|avx2|avx512] [--filter TEXT]
//
// Run it with OMP_WAIT_POLICY=passive: the idle OpenMP threads of a library spin otherwise, on the cores that the next
// contender needs.
//
// Shares are best rate / best burn rate and, in brackets, median / median. Packing is not counted in the products; it
// has lines of its own.

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "kernels/gemm.h"
#include "kernels/optimizer.h"
#include "tests/bench/gemm_peak.h"
#if defined(CADRE_BENCH_DNNL)
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#endif
#if defined(CADRE_BENCH_OPENBLAS)
#include <cblas.h>
extern "C" void openblas_set_num_threads(int threads);
#endif

namespace cadre::bench {
namespace {

using kernels::Exec;
using kernels::Isa;
using kernels::Operand;
using kernels::RightOperand;
using kernels::Write;

struct Options {
  int threads = 1;
  int rounds = 9;
  Isa isa = kernels::best_isa();
  std::string filter;
};

// ---- Rates.

struct Samples {
  std::vector<double> values;
  double best() const { return values.empty() ? 0 : *std::max_element(values.begin(), values.end()); }
  double median() const {
    if (values.empty()) return 0;
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

// Work per second, repeating a short call for at least 2 ms.
double rate_of(const Clock& clock, const std::function<void()>& call, double work) {
  int calls = 0;
  const double begin = clock.now();
  double elapsed = 0;
  do {
    call();
    ++calls;
    elapsed = clock.now() - begin;
  } while (elapsed < 2e-3);
  return work * calls / elapsed;
}

struct Contender {
  std::string name;
  std::function<void()> call;
  Samples samples{};
};

// ---- Libraries, row-major C[m, n] = op(A) op(B).

struct LibraryCall {
  bool transpose_a;
  bool transpose_b;
  int64_t m, n, k;
  const float* a;
  const float* b;
  float* c;
};

#if defined(CADRE_BENCH_DNNL)
void call_dnnl(const LibraryCall& p, int threads) {
  omp_set_num_threads(threads);
  dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m, p.n, p.k, 1.0f, p.a, p.transpose_a ? p.m : p.k,
             p.b, p.transpose_b ? p.k : p.n, 0.0f, p.c, p.n);
}
#endif
#if defined(CADRE_BENCH_OPENBLAS)
void call_openblas(const LibraryCall& p, int) {
  cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans, p.transpose_b ? CblasTrans : CblasNoTrans,
              static_cast<int>(p.m), static_cast<int>(p.n), static_cast<int>(p.k), 1.0f, p.a,
              static_cast<int>(p.transpose_a ? p.m : p.k), p.b, static_cast<int>(p.transpose_b ? p.k : p.n), 0.0f, p.c,
              static_cast<int>(p.n));
}
#endif

// One thread for each expert where there are experts, all threads on the product where there is one.
using Library = void (*)(const LibraryCall&, int threads);
void run_library(Library library, ThreadPool& pool, const std::vector<LibraryCall>& calls) {
  if (calls.size() == 1) {
    library(calls[0], pool.size());
    return;
  }
  pool.run([&](int worker) {
    for (size_t i = static_cast<size_t>(worker); i < calls.size(); i += static_cast<size_t>(pool.size())) {
      library(calls[i], 1);
    }
  });
}

std::vector<std::pair<std::string, Library>> libraries() {
  std::vector<std::pair<std::string, Library>> found;
#if defined(CADRE_BENCH_DNNL)
  found.emplace_back("oneDNN", call_dnnl);
#endif
#if defined(CADRE_BENCH_OPENBLAS)
  openblas_set_num_threads(1);
  found.emplace_back("OpenBLAS", call_openblas);
#endif
  return found;
}

// ---- Cases.

struct Case {
  std::string name;
  int64_t groups;
  int64_t tokens;  // per group
  int64_t inputs;
  int64_t outputs;
};

const std::vector<Case> kCases = {
    {"expert m16 up", 8, 16, 512, 1408},      {"expert m16 down", 8, 16, 1408, 512},
    {"expert m64 up", 8, 64, 512, 1408},      {"expert m64 down", 8, 64, 1408, 512},
    {"expert m256 up", 8, 256, 512, 1408},    {"expert m256 down", 8, 256, 1408, 512},
    {"peer m512 gate|up", 8, 512, 256, 1024}, {"peer m512 down", 8, 512, 512, 256},
    {"trunk qkv", 1, 2048, 256, 768},         {"trunk out", 1, 2048, 256, 256},
    {"head 4096", 1, 2048, 256, 4096},        {"head 256", 1, 2048, 256, 256},
};

struct Bench {
  Options options;
  Clock clock{options.threads};
  ThreadPool pool{options.threads};
  Exec exec{pool, options.isa};
  std::shared_ptr<Allocator> memory = make_host_allocator();
  std::vector<std::pair<std::string, Library>> rivals = libraries();

  Tensor random(Shape shape, uint64_t stream) {
    Tensor tensor = Tensor::empty(*memory, Dtype::kF32, shape);
    Rng rng(1, RngPurpose::kTest, stream);
    float* values = tensor.data<float>();
    for (int64_t i = 0; i < tensor.elements(); ++i) values[i] = static_cast<float>(rng.bits()) * 0x1p-32f - 0.5f;
    return tensor;
  }

  RightOperand pack(const Tensor& weights, Operand operand) {
    kept.push_back(Tensor::empty(*memory, Dtype::kF32, {kernels::packed_elements(exec, weights, operand)}));
    return kernels::pack(exec, weights, operand, kept.back());
  }

  void compare(const std::string& name, double work, std::vector<Contender> contenders) {
    Samples peak;
    for (const Contender& contender : contenders) contender.call();
    for (int round = 0; round < options.rounds; ++round) {
      peak.values.push_back(peak_rate(exec));
      for (Contender& contender : contenders) contender.samples.values.push_back(rate_of(clock, contender.call, work));
    }
    fmt::print("{:<28} peak {:5.0f}", name, peak.best() / 1e9);
    for (const Contender& contender : contenders) {
      fmt::print("  {} {:3.0f}% [{:3.0f}%]", contender.name, 100 * contender.samples.best() / peak.best(),
                 100 * contender.samples.median() / peak.median());
    }
    fmt::print("\n");
    std::fflush(stdout);
  }

  std::vector<Contender> with_rivals(std::function<void()> own, const std::vector<LibraryCall>& calls) {
    std::vector<Contender> contenders{{"own", std::move(own)}};
    for (const auto& [name, library] : rivals) {
      contenders.push_back({name, [this, library = library, calls] { run_library(library, pool, calls); }});
    }
    return contenders;
  }

  void run_case(const Case& c) {
    const int64_t rows = c.groups * c.tokens;
    Tensor weights = random({c.groups, c.outputs, c.inputs}, 1);
    Tensor x = random({rows, c.inputs}, 2);
    Tensor dy = random({rows, c.outputs}, 3);
    Tensor y = Tensor::zeros(*memory, Dtype::kF32, {rows, c.outputs});
    Tensor dx = Tensor::zeros(*memory, Dtype::kF32, {rows, c.inputs});
    Tensor dw = Tensor::zeros(*memory, Dtype::kF32, {c.groups, c.outputs, c.inputs});
    Tensor offsets = Tensor::empty(*memory, Dtype::kI64, {c.groups + 1});
    for (int64_t group = 0; group <= c.groups; ++group) offsets.data<int64_t>()[group] = group * c.tokens;
    const RightOperand forward = pack(weights, Operand::kTransposed);
    const RightOperand backward = pack(weights, Operand::kAsStored);
    std::vector<LibraryCall> forward_calls, backward_calls, weight_calls;
    for (int64_t group = 0; group < c.groups; ++group) {
      const int64_t in = group * c.tokens * c.inputs;
      const int64_t out = group * c.tokens * c.outputs;
      const int64_t matrix = group * c.inputs * c.outputs;
      const float* w = weights.data<float>() + matrix;
      forward_calls.push_back(
          {false, true, c.tokens, c.outputs, c.inputs, x.data<float>() + in, w, y.data<float>() + out});
      backward_calls.push_back(
          {false, false, c.tokens, c.inputs, c.outputs, dy.data<float>() + out, w, dx.data<float>() + in});
      weight_calls.push_back({true, false, c.outputs, c.inputs, c.tokens, dy.data<float>() + out, x.data<float>() + in,
                              dw.data<float>() + matrix});
    }
    const double work = 2.0 * static_cast<double>(rows * c.inputs * c.outputs);
    compare(
        c.name + " forward", work,
        with_rivals([&] { kernels::grouped_gemm(exec, x, offsets, forward, y, Write::kOverwrite); }, forward_calls));
    std::vector<Contender> contenders =
        with_rivals([&] { kernels::grouped_gemm(exec, dy, offsets, backward, dx, Write::kOverwrite); }, backward_calls);
    contenders.push_back(
        {"own, packing in passing",
         [&] { kernels::grouped_gemm(exec, dy, offsets, kernels::as_stored(weights), dx, Write::kOverwrite); }});
    compare(c.name + " dx", work, std::move(contenders));
    compare(c.name + " dw", work,
            with_rivals([&] { kernels::grouped_weight_gradient(exec, dy, x, offsets, dw, Write::kOverwrite); },
                        weight_calls));
    kept.clear();
  }

  // Bandwidths, GB/s, beside a plain copy of the same size.
  void bandwidth(const std::string& name, double bytes, const std::function<void()>& call,
                 const std::function<void()>& copy, double copy_bytes) {
    Samples own, plain;
    call();
    for (int round = 0; round < options.rounds; ++round) {
      plain.values.push_back(rate_of(clock, copy, copy_bytes));
      own.values.push_back(rate_of(clock, call, bytes));
    }
    fmt::print("{:<28} {:5.1f} GB/s [{:5.1f}], {:6.2f} ms   copy {:5.1f} GB/s [{:5.1f}]\n", name, own.best() / 1e9,
               own.median() / 1e9, 1e3 * bytes / own.best(), plain.best() / 1e9, plain.median() / 1e9);
    std::fflush(stdout);
  }

  void run_memory() {
    // The peer case's experts: 4 layers x 8 experts of gate|up 1024 x 256 and down 256 x 512, 12.6 M parameters.
    Tensor up = random({32, 1024, 256}, 4);
    Tensor down = random({32, 256, 512}, 5);
    const int64_t elements = up.elements() + down.elements();
    Tensor from = random({elements}, 6);
    Tensor to = Tensor::zeros(*memory, Dtype::kF32, {elements});
    const auto copy = [&] {
      parallel_for(pool, elements, 4096, [&](int64_t begin, int64_t end) {
        std::memcpy(to.data<float>() + begin, from.data<float>() + begin, static_cast<size_t>(end - begin) * 4);
      });
    };
    const double bytes = 8.0 * static_cast<double>(elements);
    for (const Operand operand : {Operand::kTransposed, Operand::kAsStored}) {
      const RightOperand packed_up = pack(up, operand), packed_down = pack(down, operand);
      const auto call = [&] {
        kernels::pack(exec, up, operand, packed_up.values);
        kernels::pack(exec, down, operand, packed_down.values);
      };
      bandwidth(operand == Operand::kTransposed ? "pack 12.6 M transposed" : "pack 12.6 M as stored", bytes, call, copy,
                bytes);
      kept.clear();
    }
    run_optimizers(elements, from, to, copy);
  }

  void run_optimizers(int64_t elements, const Tensor& weights, const Tensor& m, const std::function<void()>& copy) {
    Tensor gradients = random({elements}, 7);
    Tensor v = Tensor::zeros(*memory, Dtype::kF32, {elements});
    std::vector<kernels::AdamWSegment> segments;
    std::vector<kernels::SgdSegment> sgd_segments;
    std::vector<kernels::FlatRange> ranges;
    constexpr int64_t kCount = 300;
    for (int64_t i = 0; i < kCount; ++i) {
      const int64_t begin = elements * i / kCount;
      const int64_t count = elements * (i + 1) / kCount - begin;
      segments.push_back({.place = kernels::StatePlace::everywhere(begin, count), .lr = 1e-9, .step = 10});
      sgd_segments.push_back({.place = kernels::StatePlace::everywhere(begin, count), .lr = 1e-9, .momentum = 0.9});
      ranges.push_back({begin, count});
    }
    std::vector<double> norms(ranges.size());
    const double one = 4.0 * static_cast<double>(elements);
    bandwidth(
        "adamw 12.6 M", 7 * one, [&] { kernels::adamw(exec, segments, weights, gradients, m, v); }, copy, 2 * one);
    bandwidth(
        "sgd 12.6 M", 5 * one, [&] { kernels::sgd(exec, sgd_segments, weights, gradients, m); }, copy, 2 * one);
    bandwidth(
        "squared norms 12.6 M", one, [&] { kernels::squared_norms(exec, ranges, gradients, norms); }, copy, 2 * one);
  }

  std::vector<Tensor> kept{};
};

Isa parse_isa(const std::string& name) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (kernels::name_of(isa) == name && kernels::isa_available(isa)) return isa;
  }
  throw std::runtime_error("--isa " + name + " is unknown or not on this machine");
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string key = argv[i];
    if (i + 1 >= argc) return std::nullopt;
    if (key == "--threads") {
      options.threads = std::atoi(argv[i + 1]);
    } else if (key == "--rounds") {
      options.rounds = std::atoi(argv[i + 1]);
    } else if (key == "--isa") {
      options.isa = parse_isa(argv[i + 1]);
    } else if (key == "--filter") {
      options.filter = argv[i + 1];
    } else {
      return std::nullopt;
    }
  }
  return options;
}

}  // namespace
}  // namespace cadre::bench

int main(int argc, char** argv) {
  const auto options = cadre::bench::parse(argc, argv);
  if (!options) {
    fmt::print(stderr, "usage: bench_gemm [--threads N] [--rounds N] [--isa portable|avx2|avx512] [--filter TEXT]\n");
    return 2;
  }
  cadre::bench::Bench bench{*options};
  fmt::print("isa {}, {} thread(s); share of measured FP32 peak: best [median]\n",
             cadre::kernels::name_of(options->isa), options->threads);
  for (const cadre::bench::Case& c : cadre::bench::kCases) {
    if (c.name.find(options->filter) != std::string::npos) bench.run_case(c);
  }
  if (std::string("memory").find(options->filter) != std::string::npos) bench.run_memory();
  return 0;
}
