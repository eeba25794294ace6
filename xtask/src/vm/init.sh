#!/bin/sh
# The VM's first process: puts a writable overlay on the host's files and goes on there.
# The kernel hands over `lvs_job` and `lvs_modules` from its command line.
PATH=/bin

fail() {
    echo "init: $*"
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

# The host's files don't change under a run, so all that was read may be kept.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose,access=any hostroot /host \
    || fail "cannot mount the host's files"
mount -t tmpfs -o mode=755,size=75% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root \
    || fail "cannot put an overlay on the host's files"

cd /root || fail "no root"
mkdir -p proc sys dev run tmp mnt
for part in proc sys dev; do
    mount --move "/$part" "$part"
done
mount -t tmpfs -o mode=755 run run
mkdir -p run/lvs/out
cp -a /bin run/lvs/bin
cp -a /guest run/lvs/guest
# shellcheck disable=SC2154 # the kernel's command line sets it
cp -a "/host$lvs_job/command" "/host$lvs_job/mark" run/lvs || fail "cannot read $lvs_job"

# shellcheck disable=SC2154 # the same
release=${lvs_modules##*/}
mkdir -p "lib/modules/$release"
mount --bind "/host$lvs_modules" "lib/modules/$release" || fail "cannot reach the kernel's modules"
exec switch_root /root /run/lvs/bin/sh /run/lvs/guest
