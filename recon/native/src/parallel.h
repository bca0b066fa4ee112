// A persistent pool of threads that runs numbered tasks. No task knows who runs it, and no result may
// depend on it, so results are the same with any number of threads.
#pragma once

#include <functional>

namespace fourdvd {

// Runs task(i) for every i in [0, count), the calling thread included, and returns when all are done.
void parallel_for(int count, const std::function<void(int)>& task);

}  // namespace fourdvd
