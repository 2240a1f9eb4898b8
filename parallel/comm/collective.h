#pragma once
// What every Communicator shares: the description of a call, by which ranks check that they mean the same collective,
// and the checks of its buffers.

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel {

enum class Operation : int32_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kBroadcast,
  kSend,
  kReceive,
  kBarrier,
  kGatherText
};

// One call as one rank made it. `count` is the elements of the smaller buffer; for all_to_all the elements of a row.
// `peer` is a rank of the group.
struct Call {
  Operation operation = Operation::kBarrier;
  Reduction reduction = Reduction::kSum;
  Dtype dtype = Dtype::kU8;
  int64_t count = 0;
  int peer = -1;  // root, source or destination
  CollectiveLabel label = {};
  int64_t sequence = 0;
  GroupPtr group = {};
};

// A call in a form that means the same to every process, for shared memory and messages. Longer names are cut.
struct CallRecord {
  int64_t sequence = 0;
  int64_t count = 0;
  Operation operation = Operation::kBarrier;
  Reduction reduction = Reduction::kSum;
  int32_t dtype = 0;
  int32_t peer = -1;  // rank of the world
  int32_t layer = -1;
  char name[44] = {};
  char group[24] = {};
};

CallRecord record_of(const Call& call);
// `all_reduce(sum) "gradients" #12 of expert_data, layer 3, f32 x 1024`
std::string describe(const CallRecord& call);
std::string describe(const Call& call);
// True when two ranks' calls on one communicator belong together; labels are compared by text.
bool same_call(const CallRecord& a, const CallRecord& b);
// The same of one rank's send and the other's receive.
bool same_message(const CallRecord& a, const CallRecord& b);
bool is_message(Operation operation);
// `ranks disagree: rank 0 called ..., rank 1 called ...`
std::string disagreement(int rank, const CallRecord& call, int other_rank, const CallRecord& other);
// "1, 2 and 5"
std::string list_ranks(const std::vector<int>& ranks);

// Bytes of a contiguous view. Throws InternalError, naming the call, for a view with gaps between its rows.
size_t bytes_of(const TensorView& view, const char* operation);
// Elements of one row of the first axis.
int64_t row_elements(const TensorView& view);

// Throw InternalError naming sizes and label when the buffers do not fit the collective.
void check_reducible(const TensorView& data, const char* operation, CollectiveLabel label);
void check_gather(const TensorView& part, const TensorView& whole, int size, const char* operation,
                  CollectiveLabel label);
// Row counts must be one for each rank and fit the buffers, which may have more rows than are used.
void check_all_to_all(const TensorView& send, const std::vector<int64_t>& send_rows, const TensorView& receive,
                      const std::vector<int64_t>& receive_rows, int size, CollectiveLabel label);
void check_peer(int peer, int size, const char* operation, CollectiveLabel label);

}  // namespace cadre::parallel
