// PID 1 of kernel/check-boot: tries, as a container's programs would, what the
// guest kernel promises, prints one line per check and resets the machine.
// Static, no arguments; disks are squashfs (gzip, lz4, zstd) and ext4, in this order.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int failures;

// A check gives 0 for success, otherwise what went wrong is in errno.
static void report(const char *what, int failed)
{
    int error = errno;
    if (failed) {
        failures++;
        printf("FAIL %s: %s\n", what, strerror(error));
    } else {
        printf("ok   %s\n", what);
    }
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

// Whether a word stands in a text file.
static int has_word(const char *path, const char *word)
{
    char found[256];
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    int is = 0;
    while (!is && fscanf(f, "%255s", found) == 1)
        is = !strcmp(found, word);
    fclose(f);
    return is;
}

static void check_words(const char *path, const char *const words[])
{
    char name[128];
    for (; *words; words++) {
        snprintf(name, sizeof name, "%s has %s", path, *words);
        errno = ENOENT;
        report(name, !has_word(path, *words));
    }
}

static void mount_basics(void)
{
    static const char *const dirs[] = { "/proc", "/sys", "/tmp", "/dev", "/mnt", NULL };
    for (int i = 0; dirs[i]; i++)
        mkdir(dirs[i], 0755);
    report("proc", mount("proc", "/proc", "proc", 0, ""));
    report("sysfs", mount("sysfs", "/sys", "sysfs", 0, ""));
    report("devtmpfs", mount("dev", "/dev", "devtmpfs", 0, "") && errno != EBUSY);
    report("tmpfs", mount("tmpfs", "/tmp", "tmpfs", 0, ""));
    report("cgroup2", mount("cg", "/sys/fs/cgroup", "cgroup2", 0, "nsdelegate"));
    mkdir("/dev/pts", 0755);
    mkdir("/dev/mqueue", 0755);
    report("devpts", mount("pts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"));
    report("mqueue", mount("mq", "/dev/mqueue", "mqueue", 0, ""));
    report("bpf fs", mount("bpf", "/sys/fs/bpf", "bpf", 0, ""));
    report("binfmt_misc", mount("b", "/proc/sys/fs/binfmt_misc", "binfmt_misc", 0, ""));
    report("securityfs", mount("s", "/sys/kernel/security", "securityfs", 0, ""));
}

static void check_inventory(void)
{
    static const char *const filesystems[] = { "squashfs", "overlay", "ext4",   "erofs",  "fuse",
                                               "virtiofs", "tmpfs",   "mqueue", "cgroup2", NULL };
    static const char *const controllers[] = { "cpuset", "cpu", "io", "memory", "pids", NULL };
    static const char *const present[] = { "/dev/null",     "/dev/net/tun", "/dev/fuse",   "/dev/loop-control",
                                           "/dev/hwrng",    "/dev/vsock",   "/dev/ptmx",   "/proc/config.gz",
                                           "/proc/1/cpuset", "/proc/1/io",  NULL };
    static const char *const absent[] = { "/dev/mem", "/dev/port", "/proc/modules", "/proc/kcore", NULL };
    check_words("/proc/filesystems", filesystems);
    check_words("/sys/fs/cgroup/cgroup.controllers", controllers);
    for (int i = 0; present[i]; i++)
        report(present[i], access(present[i], F_OK));
    for (int i = 0; absent[i]; i++) {
        char name[64];
        snprintf(name, sizeof name, "no %s", absent[i]);
        int there = !access(absent[i], F_OK);
        errno = EEXIST;
        report(name, there);
    }
}

static int try_namespace(int flag)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(unshare(flag) ? errno : 0);
    int status = 0;
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status);
    return errno != 0;
}

static void check_namespaces(void)
{
    report("namespace mnt", try_namespace(CLONE_NEWNS));
    report("namespace uts", try_namespace(CLONE_NEWUTS));
    report("namespace ipc", try_namespace(CLONE_NEWIPC));
    report("namespace pid", try_namespace(CLONE_NEWPID));
    report("namespace net", try_namespace(CLONE_NEWNET));
    report("namespace user", try_namespace(CLONE_NEWUSER));
    report("namespace cgroup", try_namespace(CLONE_NEWCGROUP));
    report("namespace time", try_namespace(0x80 /* CLONE_NEWTIME */));
}

// A system call that is built in fails otherwise than with ENOSYS on bad arguments.
static int missing(long number)
{
    return syscall(number, -1L, 0L, 0L, 0L, 0L, 0L) < 0 && errno == ENOSYS;
}

static void check_syscalls(void)
{
    char parameters[256] = { 0 };
    report("io_uring", syscall(SYS_io_uring_setup, 4, parameters) < 0);
    report("landlock abi", syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 4);
    report("seccomp filter", syscall(SYS_seccomp, 2 /* GET_ACTION_AVAIL */, 0, &(unsigned){ 0x7fc00000 }) != 0);
    report("memfd", memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING) < 0);
    report("epoll", epoll_create1(0) < 0);
    report("eventfd", eventfd(0, 0) < 0);
    report("timerfd", timerfd_create(CLOCK_BOOTTIME, 0) < 0);
    report("inotify", inotify_init1(0) < 0);
    report("fanotify", fanotify_init(FAN_CLASS_CONTENT, O_RDONLY) < 0);
    report("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC) < 0);
    report("membarrier", syscall(SYS_membarrier, 0, 0, 0) <= 0);
    report("kcmp", syscall(SYS_kcmp, 1, 1, 0, 0, 0) != 0);
    report("shm (System V)", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) < 0);
    report("mq_open", mq_open("/q", O_CREAT | O_RDWR, 0600, NULL) < 0);
    report("aio", missing(SYS_io_getevents));
    report("keyctl", missing(SYS_keyctl));
    report("process_vm_readv", missing(SYS_process_vm_readv));
    report("pidfd_open", syscall(SYS_pidfd_open, getpid(), 0) < 0);
    report("rseq", missing(SYS_rseq));
    report("getrandom", getrandom(parameters, 16, GRND_NONBLOCK) != 16);
    sigset_t set;
    sigemptyset(&set);
    report("signalfd", signalfd(-1, &set, 0) < 0);
}

// Loads the smallest cgroup device program and attaches it, as runc does on v2.
static int try_device_program(const char *cgroup)
{
    struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
                               { .code = BPF_JMP | BPF_EXIT } };
    union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = 2 };
    attr.insns = (uintptr_t)code;
    attr.license = (uintptr_t) "Apache-2.0";
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    if (program < 0)
        return -1;
    union bpf_attr attach = { .attach_type = BPF_CGROUP_DEVICE };
    attach.attach_bpf_fd = (unsigned)program;
    attach.target_fd = (unsigned)open(cgroup, O_RDONLY | O_DIRECTORY);
    return (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach);
}

// More memory than the limit: the process must die by the cgroup's OOM kill.
static int try_oom_kill(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        write_file("/sys/fs/cgroup/t/cgroup.procs", "0");
        char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(p, 1, 64 << 20);
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    errno = ENOMEM;
    return !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void check_cgroups(void)
{
    write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset +cpu +io +memory +pids");
    report("cgroup mkdir", mkdir("/sys/fs/cgroup/t", 0755));
    report("memory.max", write_file("/sys/fs/cgroup/t/memory.max", "16777216"));
    report("memory.swap.max", write_file("/sys/fs/cgroup/t/memory.swap.max", "0"));
    report("memory.oom.group", write_file("/sys/fs/cgroup/t/memory.oom.group", "1"));
    report("pids.max", write_file("/sys/fs/cgroup/t/pids.max", "10"));
    report("cpu.max", write_file("/sys/fs/cgroup/t/cpu.max", "50000 100000"));
    report("cpu.weight", write_file("/sys/fs/cgroup/t/cpu.weight", "50"));
    report("cpuset.cpus", write_file("/sys/fs/cgroup/t/cpuset.cpus", "0"));
    report("cgroup.freeze", write_file("/sys/fs/cgroup/t/cgroup.freeze", "0"));
    struct stat disk = { 0 };
    char line[64];
    stat("/dev/vda", &disk);
    snprintf(line, sizeof line, "%u:%u rbps=1048576", (unsigned)(disk.st_rdev >> 8 & 0xfff), (unsigned)(disk.st_rdev & 0xff));
    report("io.max", write_file("/sys/fs/cgroup/t/io.max", line));
    report("cgroup bpf device", try_device_program("/sys/fs/cgroup/t"));
    report("cgroup OOM kill", try_oom_kill());
    report("cgroup.kill", write_file("/sys/fs/cgroup/t/cgroup.kill", "1"));
}

static int content_is(const char *path, const char *expected)
{
    char text[64] = { 0 };
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n >= 0 && !strcmp(text, expected);
}

static void check_disks(void)
{
    static const char *const packed[] = { "a", "b", "c" };
    char device[16], at[16], file[32];
    for (int i = 0; i < 3; i++) {
        snprintf(device, sizeof device, "/dev/vd%s", packed[i]);
        snprintf(at, sizeof at, "/mnt/%s", packed[i]);
        snprintf(file, sizeof file, "%s/hello", at);
        mkdir(at, 0755);
        report(device, mount(device, at, "squashfs", MS_RDONLY, i == 2 ? "threads=percpu" : ""));
        report(file, !content_is(file, "hello\n"));
    }
    mkdir("/mnt/d", 0755);
    report("ext4", mount("/dev/vdd", "/mnt/d", "ext4", 0, ""));
    report("ext4 xattr", setxattr("/mnt/d", "security.capability", "\1\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
    mkdir("/tmp/up", 0755);
    mkdir("/tmp/work", 0755);
    mkdir("/mnt/o", 0755);
    const char *layers = "lowerdir=/mnt/a:/mnt/b:/mnt/c,upperdir=/tmp/up,workdir=/tmp/work,index=on,metacopy=on,redirect_dir=on";
    report("overlay on tmpfs", mount("overlay", "/mnt/o", "overlay", 0, layers));
    report("overlay unlink", unlink("/mnt/o/hello"));
    struct stat whiteout;
    report("overlay whiteout", lstat("/tmp/up/hello", &whiteout) || !S_ISCHR(whiteout.st_mode));
    report("tmpfs user xattr", setxattr("/tmp/up", "user.a", "b", 1, 0));
}

// One link of the given kind in a fresh network namespace, through rtnetlink.
static int try_link(const char *kind)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
        struct rtattr link;
        struct rtattr kind;
        char name[16];
    } request = { 0 };
    size_t size = strlen(kind);
    request.header = (struct nlmsghdr){ .nlmsg_len = (unsigned)(offsetof(__typeof__(request), name) + RTA_ALIGN(size)),
                                        .nlmsg_type = RTM_NEWLINK,
                                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL };
    request.link = (struct rtattr){ .rta_len = (unsigned short)(8 + RTA_ALIGN(size)), .rta_type = IFLA_LINKINFO };
    request.kind = (struct rtattr){ .rta_len = (unsigned short)(4 + size), .rta_type = IFLA_INFO_KIND };
    memcpy(request.name, kind, size);
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct { struct nlmsghdr header; struct nlmsgerr error; char rest[256]; } reply = { 0 };
    if (fd < 0 || send(fd, &request, request.header.nlmsg_len, 0) < 0 || recv(fd, &reply, sizeof reply, 0) < 0)
        return -1;
    close(fd);
    errno = -reply.error.error;
    return errno != 0;
}

// The iptables table exists (legacy interface).
static int try_iptables(int family, int level, const char *table)
{
    char info[84] = { 0 };
    socklen_t size = sizeof info;
    strcpy(info, table);
    int fd = socket(family, SOCK_RAW, IPPROTO_RAW);
    int result = fd < 0 ? -1 : getsockopt(fd, level, 64 /* IPT_SO_GET_INFO, IP6T_SO_GET_INFO */, info, &size);
    close(fd);
    return result;
}

static int try_nftables(void)
{
    struct { struct nlmsghdr header; struct nfgenmsg message; } request = {
        .header = { .nlmsg_len = sizeof request, .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, .nlmsg_flags = NLM_F_REQUEST },
    };
    union { struct nlmsghdr header; char bytes[512]; } reply = { 0 };
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    if (fd < 0 || send(fd, &request, sizeof request, 0) < 0 || recv(fd, &reply, sizeof reply, 0) < 0)
        return -1;
    close(fd);
    errno = EOPNOTSUPP;
    return reply.header.nlmsg_type == NLMSG_ERROR;
}

// A byte through AF_VSOCK to ourselves.
static int try_vsock(void)
{
    struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 1028 };
    struct sockaddr_vm any = address;
    any.svm_cid = VMADDR_CID_ANY;
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0), client = socket(AF_VSOCK, SOCK_STREAM, 0);
    char byte = 0;
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 1) ||
        connect(client, (struct sockaddr *)&address, sizeof address))
        return -1;
    int server = accept(listener, NULL, NULL);
    return !(write(client, "x", 1) == 1 && read(server, &byte, 1) == 1 && byte == 'x');
}

static void check_network(void)
{
    static const char *const links[] = { "veth", "bridge", "dummy", NULL };
    static const char *const tables[] = { "filter", "nat", "mangle", "raw", NULL };
    char name[32];
    unshare(CLONE_NEWNET);
    for (int i = 0; links[i]; i++)
        report(links[i], try_link(links[i]));
    for (int i = 0; tables[i]; i++) {
        snprintf(name, sizeof name, "iptables %s", tables[i]);
        report(name, try_iptables(AF_INET, SOL_IP, tables[i]));
        snprintf(name, sizeof name, "ip6tables %s", tables[i]);
        report(name, try_iptables(AF_INET6, SOL_IPV6, tables[i]));
    }
    report("nftables", try_nftables());
    report("conntrack", access("/proc/sys/net/netfilter/nf_conntrack_max", F_OK));
    report("bridge netfilter", access("/proc/sys/net/bridge/bridge-nf-call-iptables", F_OK));
    report("packet socket", socket(AF_PACKET, SOCK_RAW, 0) < 0);
    report("vsock loopback", try_vsock());
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    mount_basics();
    struct utsname name;
    uname(&name);
    printf("kernel %s %s\n", name.release, name.machine);
    check_inventory();
    check_namespaces();
    check_syscalls();
    check_disks();
    check_cgroups();
    check_network();
    printf("checks done, %d failed\n", failures);
    sync();
    reboot(RB_AUTOBOOT);
    return 1;
}
