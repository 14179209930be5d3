//! The gateway's program: its allocator and its workers; everything else is the library's.

use gateway::workers::KernelWorkers;
use gateway_core::alloc_guard::CountingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    netpoll::take_signals();
    netpoll::map_large_allocations();
    gateway::cli::main(std::env::args_os(), &KernelWorkers)
}
