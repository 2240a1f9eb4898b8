#include "kernels/cpu/attention.h"

#include <algorithm>

namespace cadre::cpu {
namespace {

Rows rows_of(const TensorView& view) { return {view.as<float>(), view.row_stride}; }

AttentionArgs make_args(const kernels::AttentionShape& shape, const TensorView& q, const TensorView& k,
                        const TensorView& v, const TensorView& segment_start, const TensorView& out,
                        const TensorView& lse) {
  AttentionArgs args;
  args.units = shape.batch * shape.kv_heads;
  args.queries = shape.queries;
  args.keys = shape.keys;
  args.key_stride = shape.key_stride;
  args.kv_heads = shape.kv_heads;
  args.group = shape.heads / shape.kv_heads;
  args.head_dim = shape.head_dim;
  args.scale = static_cast<float>(shape.scale);
  args.q = rows_of(q);
  args.k = rows_of(k);
  args.v = rows_of(v);
  args.out = rows_of(out);
  args.lse = rows_of(lse);
  if (segment_start) args.segment_start = segment_start.as<int32_t>();
  return args;
}

// Shares `units` x `parts` among the workers by cost(part), in order, so that a worker's parts lie side by side. Calls
// body(worker, unit, part_begin, part_end).
template <class Cost, class Body>
void run_balanced(ThreadPool& pool, int64_t units, int64_t parts, const Cost& cost, const Body& body) {
  int64_t unit_cost = 0;
  for (int64_t part = 0; part < parts; ++part) unit_cost += cost(part);
  if (units * unit_cost == 0) return;
  pool.run([&](int worker) {
    const Range mine = split(units * unit_cost, worker, pool.size());
    for (int64_t unit = mine.begin / unit_cost; unit < units && unit * unit_cost < mine.end; ++unit) {
      int64_t before = unit * unit_cost;
      int64_t begin = parts;
      int64_t end = parts;
      for (int64_t part = 0; part < parts; ++part) {
        if (before >= mine.begin && begin == parts) begin = part;
        if (before >= mine.end) {
          end = part;
          break;
        }
        before += cost(part);
      }
      if (begin < end) body(worker, unit, begin, end);
    }
  });
}

int64_t panels_of(const AttentionArgs& args, int64_t lanes) { return (args.queries * args.group + lanes - 1) / lanes; }

// Keys that a panel sees when there are no segments.
int64_t keys_seen(const AttentionArgs& args, int64_t lanes, int64_t panel) {
  const int64_t last_row = std::min((panel + 1) * lanes, args.queries * args.group) - 1;
  return args.keys - args.queries + last_row / args.group + 1;
}

constexpr int64_t kKeyPart = 64;

// dk and dv over parts of the keys, then dq over panels: scores are computed twice, but any number of threads has work.
void backward_in_two_passes(ThreadPool& pool, const AttentionTable& table, const AttentionArgs& args, int64_t units) {
  const int64_t panels = panels_of(args, table.lanes);
  const int64_t parts = (args.keys + kKeyPart - 1) / kKeyPart;
  run_balanced(
      pool, units, parts, [&](int64_t part) { return args.keys - part * kKeyPart; },
      [&](int worker, int64_t unit, int64_t begin, int64_t end) {
        const int64_t key_begin = begin * kKeyPart;
        const int64_t key_end = std::min(end * kKeyPart, args.keys);
        void* scratch = pool.scratch(worker, static_cast<size_t>(table.backward_scratch(args, key_end - key_begin)));
        const int64_t first_panel = key_begin * args.group / table.lanes;
        table.backward(args, unit, first_panel, panels, key_begin, key_end, false, true, scratch);
      });
  run_balanced(
      pool, units, panels, [&](int64_t panel) { return keys_seen(args, table.lanes, panel); },
      [&](int worker, int64_t unit, int64_t begin, int64_t end) {
        void* scratch = pool.scratch(worker, static_cast<size_t>(table.backward_scratch(args, 0)));
        table.backward(args, unit, begin, end, 0, args.keys, true, false, scratch);
      });
}

}  // namespace

void attention_forward(const kernels::Exec& exec, const kernels::AttentionShape& shape, TensorView q, TensorView k,
                       TensorView v, TensorView segment_start, TensorView out, TensorView lse) {
  const AttentionTable& table = CADRE_SIMD_SELECT(exec.isa, kAttentionTable);
  const AttentionArgs args = make_args(shape, q, k, v, segment_start, out, lse);
  run_balanced(
      exec.threads, shape.batch * shape.kv_heads, panels_of(args, table.lanes),
      [&](int64_t panel) { return keys_seen(args, table.lanes, panel); },
      [&](int worker, int64_t unit, int64_t begin, int64_t end) {
        void* scratch = exec.threads.scratch(worker, static_cast<size_t>(table.forward_scratch(args)));
        table.forward(args, unit, begin, end, scratch);
      });
}

void attention_backward(const kernels::Exec& exec, const kernels::AttentionShape& shape, TensorView q, TensorView k,
                        TensorView v, TensorView segment_start, TensorView out, TensorView lse, TensorView dout,
                        TensorView dq, TensorView dk, TensorView dv) {
  const AttentionTable& table = CADRE_SIMD_SELECT(exec.isa, kAttentionTable);
  AttentionArgs args = make_args(shape, q, k, v, segment_start, out, lse);
  args.dout = rows_of(dout);
  args.dq = rows_of(dq);
  args.dk = rows_of(dk);
  args.dv = rows_of(dv);
  const int64_t units = shape.batch * shape.kv_heads;
  // One pass costs five products, two passes seven; whole units may leave threads idle.
  const int64_t threads = exec.threads.size();
  const int64_t longest = (units + threads - 1) / threads;
  if (longest * threads * 5 > units * 7) {
    backward_in_two_passes(exec.threads, table, args, units);
    return;
  }
  exec.threads.run([&](int worker) {
    const Range mine = split(units, worker, exec.threads.size());
    if (mine.begin >= mine.end) return;
    void* scratch = exec.threads.scratch(worker, static_cast<size_t>(table.backward_scratch(args, args.keys)));
    for (int64_t unit = mine.begin; unit < mine.end; ++unit) {
      table.backward(args, unit, 0, panels_of(args, table.lanes), 0, args.keys, true, true, scratch);
    }
  });
}

}  // namespace cadre::cpu
