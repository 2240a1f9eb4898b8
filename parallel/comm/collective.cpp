#include "parallel/comm/collective.h"

#include <fmt/core.h>

#include <cstring>
#include <numeric>

#include "core/error.h"

namespace cadre::parallel {
namespace {

const char* name_of_operation(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce: return "all_reduce";
    case Operation::kAllGather: return "all_gather";
    case Operation::kReduceScatter: return "reduce_scatter";
    case Operation::kAllToAll: return "all_to_all";
    case Operation::kBroadcast: return "broadcast";
    case Operation::kSend: return "send";
    case Operation::kReceive: return "receive";
    case Operation::kBarrier: return "barrier";
    case Operation::kGatherText: return "gather_text";
  }
  return "?";
}

const char* name_of_reduction(Reduction reduction) {
  switch (reduction) {
    case Reduction::kSum: return "sum";
    case Reduction::kMax: return "max";
    case Reduction::kMin: return "min";
  }
  return "?";
}

const char* text_of(CollectiveLabel label) { return label.name == nullptr ? "" : label.name; }

void check_same_dtype(const TensorView& send, const TensorView& receive, const char* operation, CollectiveLabel label) {
  if (send.dtype == receive.dtype) return;
  throw InternalError(fmt::format("{} \"{}\": sends {} but receives {}; both must have one dtype", operation,
                                  text_of(label), name_of(send.dtype), name_of(receive.dtype)));
}

void check_rows(const TensorView& view, const std::vector<int64_t>& rows, int size, const char* side,
                CollectiveLabel label) {
  if (static_cast<int>(rows.size()) != size) {
    throw InternalError(fmt::format("all_to_all \"{}\": {} {} row counts, wanted one for each of {} ranks",
                                    text_of(label), rows.size(), side, size));
  }
  for (const int64_t count : rows) {
    if (count < 0) throw InternalError(fmt::format("all_to_all \"{}\": {} row count {}", text_of(label), side, count));
  }
  const int64_t used = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const int64_t held = view.shape.rank() == 0 ? 1 : view.shape[0];
  if (used > held) {
    throw InternalError(
        fmt::format("all_to_all \"{}\": the {} row counts add "
                    "up to {}, but the buffer has {} rows",
                    text_of(label), side, used, held));
  }
}

}  // namespace

CallRecord record_of(const Call& call) {
  CallRecord record;
  record.sequence = call.sequence;
  record.count = call.count;
  record.operation = call.operation;
  record.reduction = call.reduction;
  record.dtype = static_cast<int32_t>(call.dtype);
  record.peer = call.peer >= 0 && call.group ? call.group->world_rank(call.peer) : call.peer;
  record.layer = call.label.layer;
  std::strncpy(record.name, text_of(call.label), sizeof(record.name) - 1);
  if (call.group) std::strncpy(record.group, call.group->name.c_str(), sizeof(record.group) - 1);
  return record;
}

std::string describe(const CallRecord& call) {
  std::string text = name_of_operation(call.operation);
  if (call.operation == Operation::kAllReduce) text += fmt::format("({})", name_of_reduction(call.reduction));
  text += fmt::format(" \"{}\" #{}", call.name, call.sequence);
  if (call.group[0] != 0) text += fmt::format(" of {}", call.group);
  if (call.layer >= 0) text += fmt::format(", layer {}", call.layer);
  if (call.operation == Operation::kBarrier || call.operation == Operation::kGatherText) return text;
  text += fmt::format(", {} x {}", name_of(static_cast<Dtype>(call.dtype)), call.count);
  if (call.operation == Operation::kBroadcast) text += fmt::format(" from rank {}", call.peer);
  if (call.operation == Operation::kSend) text += fmt::format(" to rank {}", call.peer);
  if (call.operation == Operation::kReceive) text += fmt::format(" from rank {}", call.peer);
  return text;
}

std::string describe(const Call& call) { return describe(record_of(call)); }

bool same_call(const CallRecord& a, const CallRecord& b) {
  return same_message(a, b) && a.operation == b.operation && a.reduction == b.reduction && a.peer == b.peer;
}

bool same_message(const CallRecord& a, const CallRecord& b) {
  return a.sequence == b.sequence && a.dtype == b.dtype && a.count == b.count && a.layer == b.layer &&
         std::strncmp(a.name, b.name, sizeof(a.name)) == 0;
}

bool is_message(Operation operation) { return operation == Operation::kSend || operation == Operation::kReceive; }

std::string disagreement(int rank, const CallRecord& call, int other_rank, const CallRecord& other) {
  return fmt::format("ranks disagree: rank {} called {}, rank {} called {}", rank, describe(call), other_rank,
                     describe(other));
}

std::string list_ranks(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

size_t bytes_of(const TensorView& view, const char* operation) {
  if (!view.contiguous()) {
    throw InternalError(fmt::format("{}: buffer {} has row stride {}, wanted a contiguous one", operation,
                                    view.shape.to_string(), view.row_stride));
  }
  return static_cast<size_t>(view.shape.elements()) * size_of(view.dtype);
}

int64_t row_elements(const TensorView& view) {
  int64_t elements = 1;
  for (int axis = 1; axis < view.shape.rank(); ++axis) elements *= view.shape[axis];
  return elements;
}

void check_reducible(const TensorView& data, const char* operation, CollectiveLabel label) {
  bytes_of(data, operation);
  switch (data.dtype) {
    case Dtype::kF32:
    case Dtype::kF64:
    case Dtype::kI64:
    case Dtype::kI32: return;
    default:
      throw InternalError(fmt::format("{} \"{}\": cannot reduce {}; f32, f64, i64 and i32 can", operation,
                                      text_of(label), name_of(data.dtype)));
  }
}

void check_gather(const TensorView& part, const TensorView& whole, int size, const char* operation,
                  CollectiveLabel label) {
  bytes_of(part, operation);
  bytes_of(whole, operation);
  check_same_dtype(part, whole, operation, label);
  if (whole.shape.elements() == part.shape.elements() * size) return;
  throw InternalError(fmt::format("{} \"{}\": {} ranks x {} elements do not make {}", operation, text_of(label), size,
                                  part.shape.elements(), whole.shape.elements()));
}

void check_all_to_all(const TensorView& send, const std::vector<int64_t>& send_rows, const TensorView& receive,
                      const std::vector<int64_t>& receive_rows, int size, CollectiveLabel label) {
  bytes_of(send, "all_to_all");
  bytes_of(receive, "all_to_all");
  check_same_dtype(send, receive, "all_to_all", label);
  if (row_elements(send) != row_elements(receive)) {
    throw InternalError(fmt::format("all_to_all \"{}\": rows of {} elements sent, of {} received", text_of(label),
                                    row_elements(send), row_elements(receive)));
  }
  check_rows(send, send_rows, size, "send", label);
  check_rows(receive, receive_rows, size, "receive", label);
}

void check_peer(int peer, int size, const char* operation, CollectiveLabel label) {
  if (peer >= 0 && peer < size) return;
  throw InternalError(
      fmt::format("{} \"{}\": rank {} does not exist, wanted 0 to {}", operation, text_of(label), peer, size - 1));
}

}  // namespace cadre::parallel
