//! Linux for user programs: ELF, tasks, scheduler, system calls, files, signals.
