#pragma once
// Collectives over messages, each a StagedOperation. Tags are the call's sequence number and stage.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/mpi_messages.h"
#include "parallel/comm/operation.h"

namespace cadre::parallel {

// Part `rank` of a buffer of `elements`, as reductions share it out: multiples of 64 bytes at least.
struct Part {
  int64_t begin;
  int64_t end;
  int64_t size() const { return end - begin; }
};
Part part_of(int64_t elements, int rank, int ranks);

// Each rank gets everyone's share of its own part, sums them in the order of reduction.h, and sends the result to all:
// the least volume possible, and an order of summation that depends on nothing but the ranks. Up to 32 KiB every rank
// gets everything and sums for itself. Buffers over 16 MiB go piece by piece, which bounds the scratch memory.
std::unique_ptr<StagedOperation> make_message_all_reduce(std::shared_ptr<MpiGroup> group, const Call& call, void* data);

std::unique_ptr<StagedOperation> make_message_reduce_scatter(std::shared_ptr<MpiGroup> group, const Call& call,
                                                             const void* send, void* receive);

// Every rank's send_bytes[r] bytes go to rank r, receive_bytes[r] come from it; contiguous in rank order, or, when
// `same_to_all`, all of them the first send_bytes[0] bytes (all_gather).
std::unique_ptr<StagedOperation> make_message_exchange(std::shared_ptr<MpiGroup> group, const Call& call,
                                                       const void* send, std::vector<size_t> send_bytes, void* receive,
                                                       std::vector<size_t> receive_bytes, bool same_to_all);

// A binomial tree from call.peer.
std::unique_ptr<StagedOperation> make_message_broadcast(std::shared_ptr<MpiGroup> group, const Call& call, void* data);

// Each rank tells the next one what it called; a rank that hears of another call tells `different` in words. Runs
// beside the collective, which does not wait for it. Where not all ranks of a group made the same call, two at least
// hear of it.
std::unique_ptr<StagedOperation> make_message_call_check(std::shared_ptr<MpiGroup> group, const Call& call,
                                                         std::function<void(const std::string&)> different);

// Every rank's text, in rank order. `texts` holds this rank's at its place, and has an entry for each.
std::unique_ptr<StagedOperation> make_message_gather_text(std::shared_ptr<MpiGroup> group, const Call& call,
                                                          std::shared_ptr<std::vector<std::string>> texts);

}  // namespace cadre::parallel
