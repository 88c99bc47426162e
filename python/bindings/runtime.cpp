// SPDX-License-Identifier: MIT
#include "runtime.hpp"

#include <unistd.h>

#include <mutex>
#include <string>

#include "potential/potential.hpp"

namespace equipot::python {

namespace {

std::mutex mutex;
int requested = 0;  // 0: not said
int running = 0;    // 0: not started
pid_t owner = 0;

int wanted() { return requested > 0 ? requested : usual_threads(); }

}  // namespace

void set_threads(int threads) {
    const std::scoped_lock lock(mutex);
    if (threads < 1 || threads > most_threads)
        throw Error("the number of threads must be from 1 to " + std::to_string(most_threads) + ", but it is " +
                    std::to_string(threads));
    if (running != 0 && running != threads) {
        throw Error("equipot already runs with " + std::to_string(running) +
                    " threads: call set_threads before the first potential is loaded");
    }
    requested = threads;
}

int threads() {
    const std::scoped_lock lock(mutex);
    return running != 0 ? running : wanted();
}

void require_runtime() {
    const std::scoped_lock lock(mutex);
    if (running == 0) {
        const int count = wanted();
        ensure_kokkos(count);
        running = count;
        owner = getpid();
    } else if (running > 1 && owner != getpid()) {
        throw Error(
            "this process was forked after equipot had started its threads, which do not survive a fork; "
            "start workers with multiprocessing.get_context(\"spawn\") (or \"forkserver\") instead");
    }
}

}  // namespace equipot::python
