// Ranks of which one throws, each of which must end the job at once with that rank's message: run one case at a time by
// tests/faults/throws.test.sh, as `mpirun -n 4 throwing_rank CASE`.

#include <chrono>
#include <cstdio>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "launch/cli/together.h"
#include "launch/session.h"

namespace cadre {
namespace {

using parallel::Communicator;

TensorView view_of(std::vector<float>& data) {
  const auto count = static_cast<int64_t>(data.size());
  return {.data = data.data(), .dtype = Dtype::kF32, .shape = Shape{count}, .row_stride = count};
}

constexpr int kCulprit = 2;
constexpr int kTimeoutMilliseconds = 3000;  // as throws.test.sh says in CADRE_TIMEOUT_SECONDS

// Rank 3 receives later than the culprit gives up.
void send_late(Communicator& expert, bool culprit, bool waits) {
  std::vector<float> data(4'000'000);
  if (culprit) {
    const parallel::WorkPtr work = expert.send(view_of(data), 1, {"activation", 4});
    if (waits) work->wait();
    throw DataError("tokens.bin: token 300 at 19");
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(waits ? kTimeoutMilliseconds + 700 : 1000));
  expert.receive(view_of(data), 0, {"activation", 4})->wait();
}

// What the culprit and rank 3, which is with it in the group `expert`, do; ranks 0 and 1 are in the other one.
using Case = void (*)(Communicator& expert, bool culprit);
const std::map<std::string, Case> kCases = {
    {"data",
     [](Communicator&, bool culprit) {
       if (culprit) throw DataError("tokens.bin: token 300 at 17");
     }},
    {"memory",
     [](Communicator&, bool culprit) {
       if (culprit) throw std::bad_alloc();
     }},
    {"unexpected",
     [](Communicator&, bool culprit) {
       if (culprit) throw std::out_of_range("vector::at");
     }},
    // Inside of a collective of the group, where the ranks find that they mean different ones.
    {"in_the_group",
     [](Communicator& expert, bool culprit) {
       std::vector<float> data(culprit ? 9 : 8);
       expert.all_reduce(view_of(data), parallel::Reduction::kSum, {"tokens", 4})->wait();
     }},
    // With an exchange under way, whose buffers are gone when it throws.
    {"amid_an_exchange",
     [](Communicator& expert, bool culprit) {
       std::vector<float> send(400'000);
       std::vector<float> receive(400'000);
       const std::vector<int64_t> rows(2, 200'000);
       const parallel::WorkPtr work = expert.all_to_all(view_of(send), rows, view_of(receive), rows, {"rows", 4});
       if (culprit) throw DataError("tokens.bin: token 300 at 18");
       work->wait();
     }},
    // The same, but the other rank comes when the buffers are gone, at a time at which this one still tries to agree
    // with the others on what has failed.
    {"before_a_late_exchange", [](Communicator& expert, bool culprit) { send_late(expert, culprit, false); }},
    // The same after the deadline.
    {"past_the_deadline", [](Communicator& expert, bool culprit) { send_late(expert, culprit, true); }},
};

int run(const std::string& name) {
  launch::Session session;
  return launch::run_together(session, [&] {
    const auto expert = session.world().split(session.rank() / 2, 0, "expert");
    std::vector<float> data(8);
    for (int step = 0; step < 20; ++step) {
      expert->all_reduce(view_of(data), parallel::Reduction::kSum, {"tokens", 3})->wait();
      if (step == 10 && session.rank() / 2 == kCulprit / 2) kCases.at(name)(*expert, session.rank() == kCulprit);
      expert->all_reduce(view_of(data), parallel::Reduction::kSum, {"tokens", 4})->wait();
      session.world().all_reduce(view_of(data), parallel::Reduction::kSum, {"statistics"})->wait();
    }
    return 0;
  });
}

}  // namespace
}  // namespace cadre

int main(int argc, char** argv) {
  if (argc == 2 && cadre::kCases.count(argv[1]) != 0) return cadre::run(argv[1]);
  std::fputs("usage: throwing_rank CASE\n", stderr);
  return 2;
}
