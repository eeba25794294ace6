#!/bin/sh
# The package in a bare Debian 12 under systemd: installed, used, upgraded while traffic flows, purged.
# trial.sh ROOT OLD.deb NEW.deb, in the test VM: ROOT is a Debian with systemd, which is changed (in the VM's memory).
set -u
root=$1 old=$2 new=$3
busybox=/run/lvs/bin/busybox
failed=0

ok() { echo "ok      $*"; }
bad() { echo "FAILED  $*"; failed=$((failed + 1)); }
# check DESCRIPTION COMMAND...
check() {
    what=$1
    shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}
# within SECONDS COMMAND...: waits until the command succeeds.
within() {
    end=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.2
    done
}
inside() { nsenter --target "$systemd" --mount --uts --ipc --pid --cgroup -- "$@"; }
agent() { inside lvs-agent "$@"; }
# contains TEXT COMMAND...
contains() {
    text=$1
    shift
    said=$("$@" 2>&1)
    case $said in *"$text"*) return 0 ;; esac
    echo "        no \"$text\" in: $said"
    return 1
}

# Two servers and a client, each in a namespace; the director is the VM itself.
host() { # NAME ADDRESS-OF-IT ADDRESS-OF-DIRECTOR
    ip netns add "$1"
    ip link add "to-$1" type veth peer name eth0 netns "$1"
    ip addr add "$3/24" dev "to-$1"
    ip link set "to-$1" up
    ip -n "$1" addr add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
    ip -n "$1" route add default via "$3"
}
web() { # NAME: starts its web server, and leaves the process in $pid
    mkdir -p "/tmp/www-$1"
    echo "$1" >"/tmp/www-$1/index.html"
    ip netns exec "$1" "$busybox" httpd -f -p 80 -h "/tmp/www-$1" &
    pid=$!
}
echo 1 >/proc/sys/net/ipv4/ip_forward
host client 10.9.0.2 10.9.0.1
host web1 10.9.1.2 10.9.1.1
host web2 10.9.2.2 10.9.2.1
ip addr add 192.0.2.80/32 dev lo
web web1
web1=$pid
web web2
ipvsadm -A -t 192.0.2.80:80 -s rr
ipvsadm -a -t 192.0.2.80:80 -r 10.9.1.2:80 -m
ipvsadm -a -t 192.0.2.80:80 -r 10.9.2.2:80 -m
# One request of the client's; not busybox' wget, which needs the C library's name services.
fetch() {
    # shellcheck disable=SC2016 # Perl's variables
    ip netns exec client perl -MIO::Socket::INET -e '
        alarm 3;
        my $server = IO::Socket::INET->new(PeerAddr => "192.0.2.80:80", Timeout => 2) or exit 1;
        print $server "GET / HTTP/1.0\r\n\r\n";
        local $/;
        exit(<$server> =~ m{^HTTP/1\.. 200} ? 0 : 1);'
}
check "the director forwards without an agent" within 10 fetch

# systemd, as the first process of its own namespaces, on the kernel of the VM.
cp "$old" "$root/old.deb"
cp "$new" "$root/new.deb"
mount --bind "$root" "$root"
# shellcheck disable=SC2016 # the inner shell's variables
unshare --fork --pid --mount --cgroup --ipc --uts sh -c '
    mount --make-rprivate /
    cd "$0"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup sys/fs/cgroup
    mount -t bpf bpf sys/fs/bpf
    mount --rbind /dev dev
    mount -t tmpfs -o mode=755 run run
    mount -t tmpfs tmp tmp
    mkdir -p "lib/modules/$(uname -r)"
    mount --bind "/lib/modules/$(uname -r)" "lib/modules/$(uname -r)"
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=lvs-trial PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd' "$root" \
    >/tmp/systemd.log 2>&1 &
unshare=$!
has_child() { systemd=$(pgrep -P "$unshare"); }
within 10 has_child
has_child
is_booted() { inside systemctl is-system-running | grep -qE 'running|degraded'; }
check "systemd runs" within 120 is_booted
inside systemctl --version | head -1
uname -r

begin=$(date +%s)
inside env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /old.deb >/tmp/install.log 2>&1 ||
    { bad "apt installs the package"; cat /tmp/install.log; }
shows_servers() { agent status | grep -q '10.9.2.2:80'; }
check "the service shows the kernel's services" within 60 shows_servers
echo "        from apt to the status: $(($(date +%s) - begin)) s, no file edited"
agent status
check "the service is enabled" contains enabled inside systemctl is-enabled lvs-agent
check "it observes" contains observe agent status
check "systemd shows how it goes" within 20 contains "2 of 2 servers up" inside systemctl show --property StatusText lvs-agent
main() { inside systemctl show --property MainPID --value lvs-agent; }
inside grep -E '^(Uid|Gid|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' "/proc/$(main)/status"
check "it runs as its own user" contains lvs-agent inside ps -o user:12= -p "$(main)"
check "exposure at most 2.5" contains "exposure level for lvs-agent.service: " \
    inside systemd-analyze security --no-pager lvs-agent
inside systemd-analyze security --no-pager lvs-agent | tail -1
check "the passive signal is there" contains whole agent status
check "nothing is complained about" \
    sh -c "! nsenter --target $systemd --mount --pid -- journalctl --no-pager -p warning -u lvs-agent | grep -i 'lvs-agent\['"

inside useradd --create-home eve
inside useradd --create-home --groups lvs-agent olga
check "others are told which group to join" contains "--groups lvs-agent" inside runuser -u eve -- lvs-agent status
check "operators may" contains 10.9.2.2:80 inside runuser -u olga -- lvs-agent status
check "the folder is for them" contains "lvs-agent 750" inside stat -c '%G %a' /run/lvs-agent
check "the socket is for them" contains "lvs-agent 660" inside stat -c '%G %a' /run/lvs-agent/control

# Manage: edits, sysctls, check commands, mail.
mail=/tmp/mail.log
: >"$mail"
perl -MIO::Socket::INET -e '
    my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:25", Listen => 5, ReuseAddr => 1) or die "port 25: $!";
    while (my $caller = $server->accept) {
        my $in_text = 0;
        print $caller "220 trial\r\n";
        while (my $line = <$caller>) {
            open my $log, ">>", "/tmp/mail.log" or die;
            print $log $line;
            close $log;
            if ($in_text) {
                next unless $line =~ /^\.\r?\n/;
                $in_text = 0;
                print $caller "250 taken\r\n";
            } elsif ($line =~ /^DATA/i) {
                $in_text = 1;
                print $caller "354 go on\r\n";
            } elsif ($line =~ /^QUIT/i) {
                print $caller "221 bye\r\n";
                last;
            } else {
                print $caller "250 ok\r\n";
            }
        }
    }' &
cat >"/proc/$systemd/root/etc/lvs-agent/lvs-agent.toml" <<C
[[service]]
name = "web"
address = "192.0.2.80:80"
scheduler = "rr"
forward = "masquerade"
check = [{ type = "http", interval = "500ms" }, { type = "command", convention = "keepalived", command = ["/usr/bin/test", "-e", "/etc/hostname"] }]
mail = { to = ["root"], from = "lvs@example.org", smtp = "127.0.0.1" }
[[service.server]]
address = "10.9.1.2:80"
[[service.server]]
address = "10.9.2.2:80"
C
check "the configuration is accepted" agent check-config /etc/lvs-agent/lvs-agent.toml
inside systemctl restart lvs-agent
all_up() { contains "2 of 2 servers up" agent status >/dev/null; }
check "both servers are up by HTTP and by a command" within 30 all_up
check "it has set IPVS' sysctls" contains 1 cat /proc/sys/net/ipv4/vs/expire_nodest_conn
kill "$web1"
is_out() { ipvsadm -Ln | grep -q '10.9.1.2:80 *Masq *0'; }
check "a dead server is out" within 20 is_out
has_mail() { grep -q "^Subject:" "$mail"; }
check "a mail about it was sent" within 60 has_mail
check "the state file is for operators" contains "lvs-agent 640" inside stat -c '%G %a' /run/lvs-agent/state.json
check "systemd shows that one is down" within 20 contains "1 of 2" inside systemctl show --property StatusText lvs-agent
web web1
check "it comes back" within 30 all_up

check "a reload succeeds" inside systemctl reload lvs-agent
check "it is active after it" contains active inside systemctl is-active lvs-agent
echo nonsense >>"/proc/$systemd/root/etc/lvs-agent/lvs-agent.toml"
if inside systemctl reload lvs-agent 2>/dev/null; then bad "a faulty file is refused"; else ok "a faulty file is refused"; fi
check "and the service goes on" contains active inside systemctl is-active lvs-agent
sed -i '$d' "/proc/$systemd/root/etc/lvs-agent/lvs-agent.toml"

# A controller that is stuck.
drop_in="/proc/$systemd/root/run/systemd/system/lvs-agent.service.d"
mkdir -p "$drop_in"
printf '[Service]\nEnvironment=LVS_HANG=controller\nWatchdogSec=6s\n' >"$drop_in/trial.conf"
inside systemctl daemon-reload
inside systemctl restart lvs-agent
was_restarted() { [ "$(inside systemctl show --property NRestarts --value lvs-agent)" -ge 1 ]; }
check "an agent whose controller is stuck is started again" within 60 was_restarted
check "by the watchdog" contains "Watchdog timeout" inside journalctl --no-pager -u lvs-agent -n 200
rm -r "$drop_in"
inside systemctl daemon-reload
inside systemctl restart lvs-agent
check "all is up after it" within 30 all_up
processes=$(main)
sleep 10
check "an agent that is well is not" contains "$processes" main

# The upgrade, while a client asks ten times a second.
(
    asked=0 lost=0
    while [ ! -e /tmp/stop ]; do
        asked=$((asked + 1))
        fetch >/dev/null 2>&1 || lost=$((lost + 1))
        sleep 0.1
    done
    echo "$asked $lost" >/tmp/lost
) &
loop=$!
sleep 2
inside env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /new.deb >/tmp/upgrade.log 2>&1 ||
    { bad "apt upgrades the package"; cat /tmp/upgrade.log; }
check "all is up after the upgrade" within 30 all_up
check "another process runs" [ "$(main)" != "$processes" ]
check "the changed configuration is kept" grep -q 'name = "web"' "/proc/$systemd/root/etc/lvs-agent/lvs-agent.toml"
sleep 2
touch /tmp/stop
wait "$loop"
read -r asked lost </tmp/lost
echo "        $asked requests, $lost lost"
check "no request was lost" [ "$lost" -eq 0 ]
inside dpkg --verify lvs-agent

inside env DEBIAN_FRONTEND=noninteractive apt-get purge --yes lvs-agent >/tmp/purge.log 2>&1 ||
    { bad "apt purges the package"; cat /tmp/purge.log; }
left=$(inside find / -xdev -name '*lvs-agent*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/var/log/journal/*' \
    -not -path '/tmp/*' -not -path '/var/lib/systemd/*')
check "nothing is left of it" [ -z "$left" ]
[ -z "$left" ] || echo "        left after the purge: $left"
check "the director still forwards" fetch
check "to both servers" contains "10.9.2.2:80" ipvsadm -Ln

if [ "$failed" -gt 0 ]; then
    inside journalctl --no-pager -u lvs-agent -n 60
fi
echo "trial: $failed failed"
[ "$failed" -eq 0 ]
