/*
 * The tour: a process looks at its own virtual memory and says what it sees.
 *
 * Eight stops: areas, demand paging, the four kinds of mmap, fork with copy-on-write, heap and
 * stack, faults that become signals, a larger working set, and the kernel's own list of it all.
 * Every claim that is printed was checked by the program first; a claim that does not hold is
 * marked, and the exit status is 1. Up to the last stop no line depends on an address, so two
 * kernels that both have it right print the same bytes.
 *
 *     tour [MIB]     MIB: size of the larger working set (default 8)
 */
#include "guest.h"

#define PAGE 4096
#define FILE_PAGES 4
#define STACK_STEPS 256

static const char file_path[] = "/tmp/kilburn-tour";

static int surprises;
static char in_data = 1;                                    /* .data */
static char in_bss[PAGE] __attribute__((aligned(PAGE)));    /* .bss */
static char maps_text[16 * 1024];
static unsigned char residency[16];

/* ---- telling -------------------------------------------------------------------------------- */

static const char *holds(int claim)
{
    if (claim)
        return "";
    surprises++;
    return "   <-- NOT AS EXPECTED";
}

static void stop(int number, const char *title)
{
    print("\n%ld. %s\n", (long)number, title);
}

/* Which pages of a range have a frame: '#' yes, '.' no. */
static const char *picture(void *at, int pages)
{
    static char text[17];
    if (sys_mincore(at, (size_t)pages * PAGE, residency) < 0)
        return "(mincore failed)";
    for (int i = 0; i < pages; i++)
        text[i] = residency[i] & 1 ? '#' : '.';
    text[pages] = 0;
    return text;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* ---- asking the kernel ---------------------------------------------------------------------- */

struct area { ulong start, end; char rights[5]; char name[64]; };

static void read_file(const char *path, char *to, size_t size)
{
    size_t len = 0;
    int fd = sys_open(path, O_RDONLY);
    for (long n; len + 1 < size && (n = sys_read(fd, to + len, size - 1 - len)) > 0;)
        len += n;
    to[len] = 0;
    sys_close(fd);
}

static const char *hex(const char *s, ulong *value)
{
    for (*value = 0;; s++) {
        if (*s >= '0' && *s <= '9')
            *value = *value * 16 + (*s - '0');
        else if (*s >= 'a' && *s <= 'f')
            *value = *value * 16 + (*s - 'a' + 10);
        else
            return s;
    }
}

/* start-end rights offset device inode   name */
static const char *parse_area(const char *s, struct area *a)
{
    size_t n = 0;
    s = hex(s, &a->start);
    s = hex(s + 1, &a->end) + 1;
    for (int i = 0; i < 4; i++)
        a->rights[i] = *s++;
    a->rights[4] = 0;
    for (int field = 0; field < 3; field++) {
        s++;
        while (*s != ' ' && *s != '\n')
            s++;
    }
    while (*s == ' ')
        s++;
    for (; *s != '\n'; s++) {
        if (*s == '/')
            n = 0;                                          /* the last part of a path */
        else if (n + 1 < sizeof a->name)
            a->name[n++] = *s;
    }
    a->name[n] = 0;
    return s + 1;
}

static int area_of(const void *address, struct area *a)
{
    read_file("/proc/self/maps", maps_text, sizeof maps_text);
    for (const char *s = maps_text; *s;) {
        s = parse_area(s, a);
        if (a->start <= (ulong)address && (ulong)address < a->end)
            return 1;
    }
    memset(a, 0, sizeof *a);
    return 0;
}

static int areas_within(const void *start, size_t len)
{
    struct area a;
    int count = 0;
    read_file("/proc/self/maps", maps_text, sizeof maps_text);
    for (const char *s = maps_text; *s;) {
        s = parse_area(s, &a);
        count += a.start < (ulong)start + len && a.end > (ulong)start;
    }
    return count;
}

static long minor_faults(void)
{
    static long usage[18];
    syscall(SYS_getrusage, 0, usage, 0);
    return usage[8];
}

static void touch(volatile char *at, int pages, int value)
{
    for (int i = 0; i < pages; i++) {
        if (value)
            at[i * PAGE] = value;
        else
            (void)at[i * PAGE];
    }
}

static long faults_reading(char *at, int pages)
{
    long before = minor_faults();
    touch(at, pages, 0);
    return minor_faults() - before;
}

static long faults_writing(char *at, int pages, int value)
{
    long before = minor_faults();
    touch(at, pages, value);
    return minor_faults() - before;
}

/* Faults that counting itself causes happen here, not inside a measurement. */
static void warm_up(void)
{
    faults_reading(in_bss, 1);
    faults_writing(in_bss, 1, 1);
    picture(in_bss, 1);
}

static int wait_for(int pid)
{
    int status = -1;
    sys_wait(pid, &status);
    return status;
}

/* ---- 1 -------------------------------------------------------------------------------------- */

static char *heap_start;

static ulong show_area(const char *what, const void *address, const char *rights, ulong above)
{
    struct area a;
    int found = area_of(address, &a);
    print("   %-26s %s%s\n", what, a.rights, holds(found && same(a.rights, rights) && a.start >= above));
    return a.start;
}

static void areas(void)
{
    char on_stack = 0;
    char *mapped = sys_mmap(3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    stop(1, "Areas: an address space is a list of ranges, each with its rights (struct vm_area_struct)");
    print("   Going up from address 0, /proc/self/maps shows these, in this order:\n");
    heap_start = (char *)(((ulong)sys_brk(0) + PAGE - 1) & -(ulong)PAGE);
    sys_brk(heap_start + 16 * PAGE);
    ulong at = show_area("program text", (void *)areas, "r-xp", 0);
    at = show_area("initialised data", &in_data, "rw-p", at);
    at = show_area("zeroed data (bss)", in_bss, "rw-p", at);
    at = show_area("heap, made by brk", heap_start, "rw-p", at);
    at = show_area("a mapping, made by mmap", mapped, "rw-p", at);
    show_area("stack", &on_stack, "rw-p", at);

    sys_mprotect(mapped + PAGE, PAGE, PROT_READ);
    int split = areas_within(mapped, 3 * PAGE);
    sys_mprotect(mapped + PAGE, PAGE, PROT_READ | PROT_WRITE);
    /* The mapping may by now have merged with a neighbour: what counts is that it is whole again. */
    int merged = areas_within(mapped, 3 * PAGE);
    print("   mprotect of the middle page of that mapping splits it: %ld areas%s\n", (long)split,
          holds(split == 3));
    print("   giving the right back merges them again: %ld area%s\n", (long)merged, holds(merged == 1));
    sys_munmap(mapped, 3 * PAGE);
}

/* ---- 2 -------------------------------------------------------------------------------------- */

static void demand_paging(void)
{
    char *at = sys_mmap(16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    const char *seen;
    stop(2, "Demand paging: a mapping has no memory until it is touched");
    print("   16 pages mapped; which of them have a frame (mincore)?\n");
    seen = picture(at, 16);
    print("   %s  after mmap%s\n", seen, holds(same(seen, "................")));
    long faults = faults_writing(at, 1, 'a');
    faults += faults_writing(at + 5 * PAGE, 2, 'b');
    seen = picture(at, 16);
    print("   %s  after writing pages 0, 5, 6: %ld page faults%s\n", seen, faults,
          holds(faults == 3 && same(seen, "#....##.........")));
    faults = faults_writing(at, 1, 'c');
    print("   %s  writing page 0 again: %ld%s\n", picture(at, 16), faults, holds(faults == 0));
    faults = faults_reading(at + 9 * PAGE, 1);
    print("   %s  reading page 9: %ld, the shared page of zeroes%s\n", picture(at, 16), faults,
          holds(faults == 1 && at[9 * PAGE] == 0));
    faults = faults_writing(at + 9 * PAGE, 1, 'd');
    print("   %s  writing page 9: %ld more, now it has a frame of its own%s\n", picture(at, 16),
          faults, holds(faults == 1));
    sys_madvise(at + 5 * PAGE, PAGE, MADV_DONTNEED);
    seen = picture(at, 16);
    print("   %s  after madvise(DONTNEED) of page 5%s\n", seen, holds(same(seen, "#.....#..#......")));
    print("   page 5 reads as %ld again; page 6 still as '%c'%s\n", (long)at[5 * PAGE], at[6 * PAGE],
          holds(at[5 * PAGE] == 0 && at[6 * PAGE] == 'b'));
    sys_munmap(at, 16 * PAGE);
}

/* ---- 3 -------------------------------------------------------------------------------------- */

static int make_file(void)
{
    char page[PAGE];
    int fd = sys_open(file_path, O_RDWR | O_CREAT | O_TRUNC);
    for (int i = 0; i < FILE_PAGES; i++) {
        memset(page, 'A' + i, PAGE);
        sys_pwrite(fd, page, PAGE, (long)i * PAGE);
    }
    return fd;
}

static char file_byte(int fd)
{
    char byte = '?';
    sys_pread(fd, &byte, 1, 0);
    return byte;
}

/* A child writes to the mapping; what do its parent and the file see? */
static void kind(const char *name, int flags, int fd, int parent_sees, int file_has)
{
    char *at = sys_mmap(PAGE, PROT_READ | PROT_WRITE, flags, fd);
    if (fd < 0)
        at[0] = 'p';
    char before = at[0];
    int child = sys_fork();
    if (child == 0) {
        at[0] = 'c';
        sys_exit(0);
    }
    wait_for(child);
    char after = at[0], in_file = fd < 0 ? '-' : file_byte(fd);
    print("   %-18s   %c          %c               %c%s\n", name, before, after, in_file,
          holds(after == parent_sees && in_file == file_has));
    sys_munmap(at, PAGE);
}

static void four_kinds(void)
{
    int fd = make_file();
    stop(3, "The four kinds of mmap: private or shared, of a file or of nothing");
    print("   A child process writes 'c' to the first byte of the mapping.\n");
    print("   kind              before   parent sees after   the file has\n");
    kind("private, nothing", MAP_PRIVATE | MAP_ANONYMOUS, -1, 'p', '-');
    kind("shared,  nothing", MAP_SHARED | MAP_ANONYMOUS, -1, 'c', '-');
    kind("private, file", MAP_PRIVATE, fd, 'A', 'A');
    kind("shared,  file", MAP_SHARED, fd, 'c', 'c');

    char *private = sys_mmap(2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
    char *shared = sys_mmap(2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    private[0] = 'x';
    sys_pwrite(fd, "w", 1, 0);
    sys_pwrite(fd, "w", 1, PAGE);
    print("   write() reaches mappings too, through the page cache: shared sees '%c' '%c',\n", shared[0],
          shared[PAGE]);
    print("   private '%c' '%c': its first page was written before and is a copy of its own%s\n",
          private[0], private[PAGE],
          holds(shared[0] == 'w' && shared[PAGE] == 'w' && private[0] == 'x' && private[PAGE] == 'w'));
    sys_munmap(private, 2 * PAGE);
    sys_munmap(shared, 2 * PAGE);
    sys_close(fd);
}

/* ---- 4 -------------------------------------------------------------------------------------- */

static int all_are(const char *at, int pages, int value)
{
    for (int i = 0; i < pages; i++)
        if (at[i * PAGE] != value)
            return 0;
    return 1;
}

static void copy_on_write(void)
{
    char *at = sys_mmap(8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    stop(4, "fork and copy-on-write: the child gets page tables, not copies");
    touch(at, 8, 'p');
    print("   The parent has written 8 pages, then forks.\n");
    int child = sys_fork();
    if (child == 0) {
        warm_up();
        long reading = faults_reading(at, 8);
        long writing = faults_writing(at, 8, 'c');
        /* fork leaves the child's pages old; where hardware does not mark them as used, the kernel does. */
        int marked_by_kernel = reading == 8;
        print("   child:  reading all 8: %ld faults%s; writing all 8: %ld, a copy each%s\n", reading,
              marked_by_kernel ? ", as the kernel marks pages used here" : "", writing,
              holds((reading == 0 || marked_by_kernel) && writing == 8 && all_are(at, 8, 'c')));
        sys_exit(surprises != 0);
    }
    int status = wait_for(child);
    print("   parent: still reads its own bytes%s\n", holds(status == 0 && all_are(at, 8, 'p')));
    warm_up();
    long again = faults_writing(at, 8, 'q');
    print("   parent: writing all 8 after the child's end: %ld faults, no copy, the frames are its alone%s\n",
          again, holds(again == 8));
    again = faults_writing(at, 8, 'r');
    print("   parent: and once more: %ld%s\n", again, holds(again == 0));
    sys_munmap(at, 8 * PAGE);
}

/* ---- 6's machinery -------------------------------------------------------------------------- */

/*
 * Each probe does one access. The handler resumes at probe_escape, which returns -1 to whoever
 * called the probe: ra is untouched, as the probes are leaves.
 */
long probe_read(const volatile void *at);
long probe_write(volatile void *at);
long probe_run(const volatile void *at);
extern char probe_escape[];
__asm__("probe_read:   lbu a0, 0(a0)\n"
        "              ret\n"
        "probe_write:  sb zero, 0(a0)\n"
        "              li a0, 0\n"
        "              ret\n"
        "probe_run:    jr a0\n"
        "probe_escape: li a0, -1\n"
        "              ret\n");

static struct { int signal, code; ulong address; } caught;
static void *repair;                                        /* a page the handler gives WRITE to */

static void on_fault(int signal, siginfo_t *info, ucontext_t *context)
{
    caught.signal = signal;
    caught.code = info->si_code;
    caught.address = (ulong)info->si_addr;
    if (repair)
        sys_mprotect(repair, PAGE, PROT_READ | PROT_WRITE);
    else
        context->uc_mcontext.pc = (ulong)probe_escape;
    repair = 0;
}

static void catch(int signal, void (*handler)(int, siginfo_t *, ucontext_t *), ulong flags)
{
    struct sigaction action = { handler, SA_SIGINFO | flags, 0 };
    syscall6(SYS_rt_sigaction, signal, (long)&action, 0, 8, 0, 0);
}

static const char *code_name(int signal, int code)
{
    if (signal == SIGSEGV && code == SEGV_MAPERR)
        return "SIGSEGV SEGV_MAPERR";
    if (signal == SIGSEGV && code == SEGV_ACCERR)
        return "SIGSEGV SEGV_ACCERR";
    if (signal == SIGBUS && code == BUS_ADRERR)
        return "SIGBUS  BUS_ADRERR";
    return signal ? "another signal" : "no signal";
}

static void provoke(const char *what, long (*probe)(), char *base, ulong offset, int signal, int code)
{
    memset(&caught, 0, sizeof caught);
    int survives = signal == 0 || repair;                  /* the access itself succeeds */
    long result = probe(base + offset);
    int right = caught.signal == signal && caught.code == code && result == (survives ? 0 : -1)
        && (!signal || caught.address == (ulong)base + offset);
    print("   %-42s %s", what, code_name(caught.signal, caught.code));
    if (caught.signal)
        print(", at offset %ld", (long)(caught.address - (ulong)base));
    print("%s\n", holds(right));
}

/* ---- 5 -------------------------------------------------------------------------------------- */

static int __attribute__((noinline)) descend(int steps)
{
    volatile char frame[PAGE];
    frame[0] = steps;
    return steps ? descend(steps - 1) + (frame[0] == (char)steps) : 1;
}

static ulong stack_kib(void)
{
    struct area a;
    area_of(__builtin_frame_address(0), &a);
    return (a.end - a.start) / 1024;
}

static void heap_and_stack(void)
{
    stop(5, "Heap and stack grow");
    print("   heap, 16 pages asked of brk:               %s\n", picture(heap_start, 16));
    touch(heap_start, 3, 'h');
    print("   after writing the first 3:                 %s%s\n", picture(heap_start, 16),
          holds(same(picture(heap_start, 16), "###.............")));
    catch(SIGSEGV, on_fault, 0);
    sys_brk(heap_start);
    provoke("given back, then read:", probe_read, heap_start, 0, SIGSEGV, SEGV_MAPERR);

    ulong before = stack_kib();
    int steps = descend(STACK_STEPS);
    ulong after = stack_kib();
    print("   the stack area, over 1 MiB long?           %s\n", before > 1024 ? "yes" : "no");
    print("   after %ld calls, a page of locals each:    %s%s\n", (long)STACK_STEPS,
          after > 1024 ? "yes" : "no",
          holds(before < 1024 && after > 1024 && steps == STACK_STEPS + 1));
    print("   Nobody called mmap for it: a fault below its lowest page makes the area larger.\n");
}

/* ---- 6 -------------------------------------------------------------------------------------- */

static char signal_stack[8 * PAGE];

/* The stack is at its limit, so this runs on the alternate stack; the child ends in here. */
static void on_overflow(int signal, siginfo_t *info, ucontext_t *context)
{
    char here;
    int on_alternate = &here >= signal_stack && &here < signal_stack + sizeof signal_stack;
    ulong below = context->uc_mcontext.sp - (ulong)info->si_addr;
    sys_exit(signal == SIGSEGV && info->si_code == SEGV_MAPERR && on_alternate
             && (below < 2 * PAGE || -below < 2 * PAGE) ? 42 : 1);
}

static int __attribute__((noinline)) descend_for_ever(volatile int *count)
{
    volatile char frame[PAGE];
    frame[0] = (*count)++;
    return *count < 0 ? 0 : descend_for_ever(count) + frame[0];
}

static void stack_overflow(void)
{
    volatile int count = 0;
    int child = sys_fork();
    if (child == 0) {
        stack_t stack = { signal_stack, 0, sizeof signal_stack };
        struct rlimit limit = { 2 << 20, 2 << 20 };
        syscall6(SYS_prlimit64, 0, RLIMIT_STACK, (long)&limit, 0, 0, 0);
        syscall(SYS_sigaltstack, &stack, 0, 0);
        catch(SIGSEGV, on_overflow, SA_ONSTACK);
        sys_exit(descend_for_ever(&count) & 1);
    }
    int status = wait_for(child);
    print("   endless recursion, stack limit 2 MiB       SIGSEGV SEGV_MAPERR, handled on another stack%s\n",
          holds(status == 42 << 8));
}

static void not_survived(char *hole)
{
    int child = sys_fork();
    if (child == 0) {
        catch(SIGSEGV, 0, 0);
        probe_read(hole);
        sys_exit(0);
    }
    int status = wait_for(child);
    print("   without a handler it ends the process: wait() says killed by signal %ld%s\n",
          (long)(status & 127), holds(status == SIGSEGV || status == (SIGSEGV | 0x80)));
}

static void signals(void)
{
    char *at = sys_mmap(5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int fd = sys_open(file_path, O_RDWR);
    char *file = sys_mmap(FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    stop(6, "Faults that become signals; a handler survives them");
    catch(SIGSEGV, on_fault, 0);
    catch(SIGBUS, on_fault, 0);
    at[0] = at[PAGE] = at[3 * PAGE] = 'k';
    sys_munmap(at + 2 * PAGE, PAGE);
    sys_mprotect(at + 3 * PAGE, PAGE, PROT_NONE);
    sys_mprotect(at, PAGE, PROT_READ);
    provoke("read at address 0 (a NULL pointer):", probe_read, 0, 0, SIGSEGV, SEGV_MAPERR);
    provoke("read where page 2 was unmapped:", probe_read, at, 2 * PAGE + 5, SIGSEGV, SEGV_MAPERR);
    provoke("write to page 0, read-only:", probe_write, at, 7, SIGSEGV, SEGV_ACCERR);
    provoke("read of page 3, PROT_NONE:", probe_read, at, 3 * PAGE, SIGSEGV, SEGV_ACCERR);
    provoke("jump into page 1, not executable:", probe_run, at, PAGE, SIGSEGV, SEGV_ACCERR);
    sys_ftruncate(fd, PAGE + 100);
    provoke("file cut to 1 page and 100 bytes, page 2:", probe_read, file, 2 * PAGE, SIGBUS, BUS_ADRERR);
    provoke("  its page 1 past byte 100 is zeroes:", probe_read, file, PAGE + 200, 0, 0);
    repair = at;
    provoke("write to page 0, the handler mprotects it:", probe_write, at, 0, SIGSEGV, SEGV_ACCERR);
    sys_munmap(file, FILE_PAGES * PAGE);
    sys_close(fd);
    sys_unlink(file_path);
    stack_overflow();
    not_survived(at + 2 * PAGE);
    sys_munmap(at, 2 * PAGE);
    sys_munmap(at + 3 * PAGE, 2 * PAGE);
}

/* ---- 7 -------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return x * 0x2545f4914f6cdd1dULL;
}

/* Reads every page once, `stride` apart (coprime to their number); counts words that are wrong. */
static ulong wrong_words(const uint64_t *words, ulong pages, ulong stride)
{
    ulong wrong = 0, page = 0;
    for (ulong n = 0; n < pages; n++) {
        for (ulong i = page * (PAGE / 8); i < (page + 1) * (PAGE / 8); i++)
            wrong += words[i] != mix(i + 1);
        page = (page + stride) % pages;
    }
    return wrong;
}

/* The number after `key` in a file of /proc that has "key:   number kB" on its lines; 0 without. */
static ulong kb_after(const char *path, const char *key)
{
    size_t len = str_len(key);
    read_file(path, maps_text, sizeof maps_text);
    for (const char *s = maps_text; *s; s++) {
        size_t i = 0;
        while (i < len && s[i] == key[i])
            i++;
        if (i == len && (s == maps_text || s[-1] == '\n')) {
            ulong value = 0;
            for (s += len; *s == ' ' || *s == '\t'; s++)
                ;
            for (; *s >= '0' && *s <= '9'; s++)
                value = value * 10 + (*s - '0');
            return value;
        }
    }
    return 0;
}

/* MiB of a working set worth seeing: more than a small machine's memory, if it has swap for it. */
static ulong worth_seeing(void)
{
    ulong memory = kb_after("/proc/meminfo", "MemTotal:") >> 10;
    ulong swap = kb_after("/proc/meminfo", "SwapFree:") >> 10;
    ulong more = memory + memory / 2;
    return memory <= 64 && more > 8 && swap >= more ? more : 8;
}

static void working_set(ulong mib)
{
    ulong pages = mib << 8;
    uint64_t *words = sys_mmap(pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    stop(7, "A larger working set: written once, read back in three orders");
    if ((ulong)words > -(ulong)PAGE) {
        print("   %lu MiB cannot be mapped: error %ld%s\n", mib, (long)-(long)words, holds(0));
        return;
    }
    sys_madvise(words, pages * PAGE, MADV_NOHUGEPAGE);
    for (ulong i = 0; i < pages * (PAGE / 8); i++)
        words[i] = mix(i + 1);
    print("   %lu MiB, %lu pages written\n", mib, pages);
    ulong swapped = kb_after("/proc/self/status", "VmSwap:") / 4;
    if (swapped)
        print("   more than there is: %lu of these pages are in swap now\n", swapped);
    static const struct { const char *order; ulong stride; } passes[] = {
        { "upwards", 1 }, { "downwards", -1UL }, { "every 97th", 97 },
    };
    for (int i = 0; i < 3; i++) {
        ulong stride = passes[i].stride == -1UL ? pages - 1 : passes[i].stride;
        ulong wrong = wrong_words(words, pages, stride);
        print("   read %-11s %lu of %lu words are right%s\n", passes[i].order,
              pages * (PAGE / 8) - wrong, pages * (PAGE / 8), holds(wrong == 0));
    }
    sys_munmap(words, pages * PAGE);
}

/* ---- 8 -------------------------------------------------------------------------------------- */

/* Whether a line of /proc/self/status is one of those that tell of memory: "VmSize:" and others. */
static int tells_size(const char *line)
{
    return line[0] == 'V' && line[1] == 'm';
}

static void show_lines(const char *path, int (*wanted)(const char *line))
{
    read_file(path, maps_text, sizeof maps_text);
    for (const char *s = maps_text; *s; s++) {
        int show = !wanted || wanted(s);
        if (show)
            print("   ");
        for (; *s != '\n'; s++)
            if (show)
                out_char(*s);
        if (show)
            out_char('\n');
    }
}

static void as_the_kernel_lists_it(void)
{
    int fd = make_file();
    static const int kinds[] = {
        MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED,
    };
    stop(8, "The address space as the kernel lists it: a heap of 2 pages, one mapping of each kind");
    sys_brk(heap_start + 2 * PAGE);
    for (int i = 0; i < 4; i++)
        sys_mmap(FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, kinds[i],
                 kinds[i] & MAP_ANONYMOUS ? -1 : fd);
    show_lines("/proc/self/maps", 0);
    print("   and as it counts it (/proc/self/status):\n");
    show_lines("/proc/self/status", tells_size);
    sys_unlink(file_path);
}

static ulong number(const char *s)
{
    ulong value = 0;
    for (; *s >= '0' && *s <= '9' && value < 1 << 24; s++)
        value = value * 10 + (*s - '0');
    return *s ? 0 : value;
}

static int guest_main(int argc, char **argv)
{
    ulong mib = argc > 1 ? number(argv[1]) : worth_seeing();
    if (mib == 0) {
        print("usage: tour [MIB]   (MIB: 1 or more)\n");
        return 2;
    }
    int fd = make_file();
    if (fd < 0) {
        print("tour: cannot create %s: error %ld\n", file_path, (long)-fd);
        return 1;
    }
    sys_close(fd);
    print("A tour of a process's virtual memory, told by the process itself.\n");
    warm_up();
    areas();
    demand_paging();
    four_kinds();
    copy_on_write();
    heap_and_stack();
    signals();
    working_set(mib);
    as_the_kernel_lists_it();
    if (surprises)
        print("\nEnd of the tour: %ld of its claims did NOT hold.\n", (long)surprises);
    else
        print("\nEnd of the tour: everything was as it should be.\n");
    return surprises != 0;
}
