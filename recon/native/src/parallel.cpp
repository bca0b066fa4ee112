#include "parallel.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define FOURDVD_PAUSE() _mm_pause()
#else
#define FOURDVD_PAUSE() std::this_thread::yield()
#endif

namespace fourdvd {
namespace {

// Treats denormal numbers as 0 while it lives: a product with one takes a hundred cycles, and they are
// common where a Gaussian or a skinning weight fades out.
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // FTZ and DAZ
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (1u << 24)));  // FZ
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  unsigned long before_;
#endif
};

constexpr int kSpins = 2000;  // tens of microseconds: the phases of an image follow each other closely

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int count, const std::function<void(int)>& task) {
    if (workers_.empty() || count < 2) {
      for (int i = 0; i < count; ++i) task(i);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    drain();
    for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < kSpins)
        FOURDVD_PAUSE();
      else
        std::this_thread::yield();  // another process may occupy the processor
    }
  }

 private:
  void drain() {
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*task_)(i);
  }

  void work() {
    const FlushDenormals flush;
    unsigned seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin)
        FOURDVD_PAUSE();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      drain();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};
  std::atomic<int> next_{0}, busy_{0};
  const std::function<void(int)>* task_ = nullptr;
  int count_ = 0;
  bool stopping_ = false;
};

int default_threads() {
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

std::mutex g_entry;  // one parallel_for at a time: callers come from any Python thread
std::unique_ptr<Pool> g_pool;
int g_threads = default_threads();  // those of the next pool

}  // namespace

void parallel_for(int count, const std::function<void(int)>& task) {
  std::lock_guard<std::mutex> lock(g_entry);
  const FlushDenormals flush;  // in all threads, so that results do not depend on their number
  if (!g_pool) g_pool = std::make_unique<Pool>(g_threads);
  g_pool->run(count, task);
}

}  // namespace fourdvd

extern "C" {

// Sets the number of threads of all kernels; below 1: one per processor.
void fourdvd_set_threads(int threads) {
  std::lock_guard<std::mutex> lock(fourdvd::g_entry);
  fourdvd::g_threads = threads < 1 ? fourdvd::default_threads() : threads;
  if (fourdvd::g_pool && fourdvd::g_pool->threads() != fourdvd::g_threads) fourdvd::g_pool.reset();
}

// After fork() the child process has none of the threads: drop the pool without joining it. One of them may
// have held the mutex, which nobody unlocks here: make a new one.
void fourdvd_after_fork_in_child() {
  (void)fourdvd::g_pool.release();
  new (&fourdvd::g_entry) std::mutex;
}

}  // extern "C"
