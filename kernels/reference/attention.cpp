#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace cadre::reference {
namespace {

// One query row of one head.
struct Query {
  int64_t sequence;
  int64_t row;  // of q and out
  int64_t head;
  int64_t kv_head;
  int64_t first;  // keys first .. last are seen
  int64_t last;
};

class Heads {
 public:
  Heads(const TensorView& view, int64_t head_dim)
      : data_(view.as<double>()), stride_(view.row_stride), head_dim_(head_dim) {}
  double* operator()(int64_t row, int64_t head) const { return data_ + row * stride_ + head * head_dim_; }

 private:
  double* data_;
  int64_t stride_;
  int64_t head_dim_;
};

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add(double factor, const double* from, double* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

void zero(const TensorView& view) {
  for (int64_t row = 0; row < view.rows(); ++row) {
    std::fill_n(view.as<double>() + row * view.row_stride, view.cols(), 0.0);
  }
}

template <class F>
void for_each_query(const kernels::AttentionShape& shape, const TensorView& segment_start, F&& body) {
  for (int64_t sequence = 0; sequence < shape.batch; ++sequence) {
    for (int64_t i = 0; i < shape.queries; ++i) {
      const int64_t row = sequence * shape.queries + i;
      const int64_t first = segment_start ? std::max(segment_start.as<int32_t>()[row], 0) : 0;
      for (int64_t head = 0; head < shape.heads; ++head) {
        body(Query{sequence, row, head, head / (shape.heads / shape.kv_heads), first, shape.keys - shape.queries + i});
      }
    }
  }
}

}  // namespace

void attention_forward(const kernels::AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                       TensorView segment_start, TensorView out, TensorView lse) {
  const Heads qs(q, shape.head_dim), ks(k, shape.head_dim), vs(v, shape.head_dim), outs(out, shape.head_dim);
  zero(out);
  for_each_query(shape, segment_start, [&](const Query& query) {
    const int64_t keys = query.sequence * shape.key_stride;
    std::vector<double> scores;
    for (int64_t j = query.first; j <= query.last; ++j) {
      scores.push_back(shape.scale * dot(qs(query.row, query.head), ks(keys + j, query.kv_head), shape.head_dim));
    }
    double& log_sum = lse.as<double>()[query.row * lse.row_stride + query.head];
    log_sum = -std::numeric_limits<double>::infinity();
    if (scores.empty()) return;
    const double highest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (const double score : scores) total += std::exp(score - highest);
    log_sum = highest + std::log(total);
    for (int64_t j = query.first; j <= query.last; ++j) {
      const double weight = std::exp(scores[static_cast<size_t>(j - query.first)] - log_sum);
      add(weight, vs(keys + j, query.kv_head), outs(query.row, query.head), shape.head_dim);
    }
  });
}

void attention_backward(const kernels::AttentionShape& shape, TensorView q, TensorView k, TensorView v,
                        TensorView segment_start, TensorView out, TensorView lse, TensorView dout, TensorView dq,
                        TensorView dk, TensorView dv) {
  const Heads qs(q, shape.head_dim), ks(k, shape.head_dim), vs(v, shape.head_dim), outs(out, shape.head_dim);
  const Heads douts(dout, shape.head_dim), dqs(dq, shape.head_dim), dks(dk, shape.head_dim), dvs(dv, shape.head_dim);
  for (const TensorView& gradient : {dq, dk, dv}) zero(gradient);
  for_each_query(shape, segment_start, [&](const Query& query) {
    const int64_t keys = query.sequence * shape.key_stride;
    const double* row = qs(query.row, query.head);
    const double* drow = douts(query.row, query.head);
    const double log_sum = lse.as<double>()[query.row * lse.row_stride + query.head];
    const double delta = dot(drow, outs(query.row, query.head), shape.head_dim);
    for (int64_t j = query.first; j <= query.last; ++j) {
      const double* key = ks(keys + j, query.kv_head);
      const double weight = std::exp(shape.scale * dot(row, key, shape.head_dim) - log_sum);
      const double dweight = dot(drow, vs(keys + j, query.kv_head), shape.head_dim);
      const double dscore = shape.scale * weight * (dweight - delta);
      add(weight, drow, dvs(keys + j, query.kv_head), shape.head_dim);
      add(dscore, key, dqs(query.row, query.head), shape.head_dim);
      add(dscore, row, dks(keys + j, query.kv_head), shape.head_dim);
    }
  });
}

}  // namespace cadre::reference
