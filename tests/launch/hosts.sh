# Sourced by scripts that want several hosts: each is made of namespaces, with an address, a name, processes, a temporary folder ($TMPDIR,
# scratch/), /dev/shm and an sshd of its own, and a switch joins them. The script itself runs on the host "login". All other files are
# shared. Everything ends with the script, however it ends; nothing outside is reached, or reaches in.

source "$CADRE_SOURCE/tests/faults/fixture.sh"
skip() { echo "$1"; exit 77; }

# on_own_network SCRIPT TOOL ...: starts the script anew as the host "login"; skips where that is not allowed or a tool is missing.
on_own_network() {
  local script=$1 tool; shift
  if [ -z "${HOSTS_INSIDE:-}" ]; then
    [ "$(id -u)" = 0 ] || skip "hosts made of namespaces need root"
    for tool in ip ssh sshd ssh-keygen nsenter "$@"; do command -v "$tool" >/dev/null || skip "there is no $tool (launch/install test)"; done
    unshare --mount --net --uts --pid --fork --mount-proc true 2>unshare.log || skip "namespaces are not allowed here: $(tail -n 1 unshare.log)"
    HOSTS_INSIDE=1 exec unshare --mount --net --uts --pid --fork --kill-child --mount-proc bash "$script"
  fi
  {
    mount -t tmpfs tmpfs /run && mkdir scratch && hostname login && ip link set lo up &&
      ip link add switch type bridge && ip address add 10.77.0.1/24 dev switch && ip link set switch up
  } >network.log 2>&1 || skip "no network of one's own here: $(tail -n 1 network.log)"
  printf '127.0.0.1 localhost\n10.77.0.1 login\n' >hosts
  mount --bind hosts /etc/hosts
  ssh-keygen -q -t ed25519 -N "" -f key
  sed 's/^root:[^:]*/root:*/' /etc/shadow >shadow  # sshd lets nobody in whose password is locked
  cat >ssh_config <<EOF
User root
IdentityFile $PWD/key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
ConnectTimeout 20
EOF
  cat >sshd_config <<EOF
HostKey $PWD/key
AuthorizedKeysFile $PWD/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
SetEnv TMPDIR=$PWD/scratch
EOF
  export OMPI_MCA_plm_rsh_agent="ssh -F $PWD/ssh_config"
}

# add_host NAME NUMBER: joins a host with the address 10.77.0.NUMBER to the network, and starts it.
add_host() {
  ip netns add "$1"
  ip link add eth0 netns "$1" type veth peer name "to-$1"
  ip link set "to-$1" master switch up
  ip -n "$1" address add "10.77.0.$2/24" dev eth0
  ip -n "$1" link set eth0 up
  ip -n "$1" link set lo up
  echo "10.77.0.$2 $1" >>hosts
  start_host "$1"
  soon on_host "$1" true || skip "sshd does not run here: $(tail -n 1 "$1.host.log")"
}
soon() { (until_true "" "$@") >/dev/null; }
# start_host NAME: its first process, sshd, whose end is the end of all its others.
start_host() {
  nsenter --net="/run/netns/$1" unshare --mount --uts --pid --fork --kill-child --mount-proc bash -c '
    set -e
    hostname "$1"
    mount -t tmpfs tmpfs /run; mkdir /run/sshd
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs scratch
    mount --bind shadow /etc/shadow
    exec /usr/sbin/sshd -D -e -f "$PWD/sshd_config"' host "$1" >"$1.host.log" 2>&1 &
  echo $! >"$1.pid"
  disown  # bash would tell of its end
}
# on_host NAME COMMAND ...: through its sshd.
on_host() { local host=$1; shift; ssh -F ssh_config "$host" "cd $PWD && $(printf '%q ' "$@")" </dev/null; }
# host_fails NAME: all its processes end at once, as when the power goes.
host_fails() { kill -KILL "$(cat "$1.pid")"; }
