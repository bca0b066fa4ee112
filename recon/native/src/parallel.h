// A persistent thread pool for numbered tasks. Results must not depend on which thread runs a task, so
// that they are the same with any number of threads.
#pragma once

#include <functional>

namespace fourdvd {

// Runs task(i) for every i in [0, count), the calling thread included, and returns when all are done.
void parallel_for(int count, const std::function<void(int)>& task);

}  // namespace fourdvd
