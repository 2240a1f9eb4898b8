#pragma once
// A fixed team of threads for data-parallel loops inside kernels. The caller is worker 0. Work is split statically, so
// a result never depends on which thread was faster.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace cadre {

class ThreadPool {
 public:
  // `size` workers, the calling thread included; 1 starts no thread.
  explicit ThreadPool(int size);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Plain-function form, so that code compiled for one instruction set needs no std::function.
  using Body = void (*)(void* context, int worker);
  // Calls body(context, worker) once for each worker and returns when all are done. Not reentrant. Exceptions thrown by
  // a body are rethrown here (one of them).
  void run(Body body, void* context);

  template <class F>
  void run(F&& body) {
    using Function = std::remove_reference_t<F>;
    run([](void* f, int worker) { (*static_cast<Function*>(f))(worker); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Scratch memory of one worker, at least `bytes`, aligned to 64 bytes; contents last until that worker asks again.
  void* scratch(int worker, size_t bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The part [begin, end) of `count` items that belongs to `worker` of `workers`, in multiples of `grain`.
struct Range {
  int64_t begin;
  int64_t end;
};
inline Range split(int64_t count, int worker, int workers, int64_t grain = 1) {
  const int64_t units = (count + grain - 1) / grain;
  const int64_t begin = units * worker / workers * grain;
  const int64_t end = units * (worker + 1) / workers * grain;
  return {begin < count ? begin : count, end < count ? end : count};
}

// body(begin, end) over `count` items, split among the workers; serial when there is too little to share.
template <class F>
void parallel_for(ThreadPool& pool, int64_t count, int64_t grain, F&& body) {
  if (count <= grain || pool.size() == 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  pool.run([&](int worker) {
    const Range part = split(count, worker, pool.size(), grain);
    if (part.begin < part.end) body(part.begin, part.end);
  });
}

}  // namespace cadre
