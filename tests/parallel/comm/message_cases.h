#pragma once
// What messages between two ranks must do, as a pipeline uses them: run by the Thread and MPI tests.

#include <numeric>
#include <string>
#include <vector>

#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel::testing {

// Both neighbours of a line of ranks exchange many messages of different sizes both ways, all under way at once, posted
// in different orders and waited for in others.
inline void check_many_messages(Communicator& comm, int messages, int64_t largest) {
  struct Flight {
    std::vector<float> data;
    std::vector<float> wanted;
    WorkPtr work;
  };
  std::vector<Flight> flights;
  flights.reserve(static_cast<size_t>(messages) * 4);
  const auto count = [&](int message, bool down) { return 1 + largest * ((message * 5 + (down ? 2 : 0)) % 7) / 6; };
  const auto start = [&](int peer, int message, bool sends) {
    const bool down = sends == (peer > comm.rank());
    const int salt = message * 2 + (down ? 1 : 0);
    const CollectiveLabel label = {down ? "activation" : "gradient", message};
    Flight flight;
    flight.wanted = filled<float>(sends ? comm.rank() : peer, count(message, down), salt);
    flight.data = sends ? flight.wanted : std::vector<float>(flight.wanted.size(), -1);
    flights.push_back(std::move(flight));
    const TensorView view = view_of(flights.back().data);
    flights.back().work = sends ? comm.send(view, peer, label) : comm.receive(view, peer, label);
  };
  // Even ranks send first, odd ones receive first.
  for (const bool sends : {comm.rank() % 2 == 0, comm.rank() % 2 != 0}) {
    for (int message = 0; message < messages; ++message) {
      if (comm.rank() > 0) start(comm.rank() - 1, message, sends);
      if (comm.rank() + 1 < comm.size()) start(comm.rank() + 1, message, sends);
    }
  }
  const size_t step = static_cast<size_t>(comm.rank()) * 2 + 11;
  const size_t total = flights.size();
  for (size_t i = 0; i < total; ++i)
    flights[std::gcd(step, total) == 1 ? i * step % total : total - 1 - i].work->wait();
  for (const Flight& flight : flights) ASSERT_EQ(flight.data, flight.wanted);
}

// Messages and collectives of one communicator do not get in each other's way.
inline void check_messages_beside_collectives(Communicator& comm) {
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  std::vector<float> out = filled<float>(comm.rank(), 20'003);
  std::vector<float> in(out.size());
  const WorkPtr receive = comm.receive(view_of(in), previous, {"ring"});
  check_all_reduce<float>(comm, 9'001, Reduction::kSum);
  const WorkPtr send = comm.send(view_of(out), next, {"ring"});
  check_all_reduce<double>(comm, 3, Reduction::kMax);
  receive->wait();
  send->wait();
  ASSERT_EQ(in, filled<float>(previous, 20'003));
}

// What rank 1 throws, to which rank 0 sends something else than it expects. Of the same size in bytes, but for `count`.
enum class WrongMessage { kCount, kFewer, kDtype, kLabel, kLayer };
inline std::string error_of_wrong_message(Communicator& comm, WrongMessage wrong) {
  std::vector<int32_t> integers(10);
  std::vector<float> floats(wrong == WrongMessage::kCount ? 11 : wrong == WrongMessage::kFewer ? 9 : 10);
  try {
    if (comm.rank() == 0) {
      const TensorView view = wrong == WrongMessage::kDtype ? view_of(integers) : view_of(floats);
      comm.send(view, 1,
                {wrong == WrongMessage::kLabel ? "gradient" : "activation", wrong == WrongMessage::kLayer ? 4 : 3})
          ->wait();
    }
    std::vector<float> data(10);
    if (comm.rank() == 1) comm.receive(view_of(data), 0, {"activation", 3})->wait();
  } catch (const CommunicationError& error) {
    return error.what();
  }
  return "";
}

inline void expect_both_named(const std::string& error, WrongMessage wrong) {
  const auto names = [&](const std::string& text) { EXPECT_NE(error.find(text), std::string::npos) << error; };
  names("receive \"activation\" #0 of world, layer 3, f32 x 10 from rank 0");
  names("rank 0 called send ");
  if (wrong == WrongMessage::kCount) names("f32 x 11 to rank 1");
  if (wrong == WrongMessage::kFewer) names("f32 x 9 to rank 1");
  if (wrong == WrongMessage::kDtype) names("i32 x 10 to rank 1");
  if (wrong == WrongMessage::kLabel) names("send \"gradient\" #0");
  if (wrong == WrongMessage::kLayer) names("layer 4");
}

constexpr WrongMessage kWrongMessages[] = {WrongMessage::kCount, WrongMessage::kFewer, WrongMessage::kDtype,
                                           WrongMessage::kLabel, WrongMessage::kLayer};

}  // namespace cadre::parallel::testing
