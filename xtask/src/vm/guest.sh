# shellcheck shell=sh
# The VM's first process after init.sh: sets the system up, runs the command, tells the host how it ended.
# Three ports lead to the host: p1 takes the command's standard output, p2 its standard error, p3 is for us two.
PATH=/run/lvs/bin
umask 022

# /tmp stays on the overlay: the repository or the cache may be below it.
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
if [ -n "$lvs_out" ]; then
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,access=any out /run/lvs/out
fi
unset lvs_job lvs_modules lvs_out
hostname lvs-vm
ip link set lo up

# Whoever asks for a module, the kernel or a command, gets it from this kernel's own directory.
ln -sf /run/lvs/bin/modprobe /sbin/modprobe
echo /sbin/modprobe >/proc/sys/kernel/modprobe
modprobe -q virtio_rng
modprobe ip_vs

# A command may open /dev/stdout again, which a port doesn't allow: it gets pipes, and a copier has the ports.
mkfifo /run/lvs/stdout /run/lvs/stderr
for port in /dev/vport*p1; do
    ports=${port%p1}
done
cat </run/lvs/stdout >"${ports}p1" &
cat </run/lvs/stderr >"${ports}p2" &
exec 5>/run/lvs/stdout 6>/run/lvs/stderr 7<>"${ports}p3"

# The host is gone when its side of the port closes.
{
    cat <&7 >/dev/null
    poweroff -f
} 5>&- 6>&- &

/bin/sh /run/lvs/command </dev/null >&5 2>&6 5>&- 6>&- 7>&-
status=$?
sync
cat /run/lvs/mark >&5
cat /run/lvs/mark >&6
echo "$status" >&7
# The host ends the machine as soon as it has read all this.
sleep 60
poweroff -f
