# A service manager of this user's own, in namespaces: `unshare ... bash user_manager.sh FOLDER`. It lives as long as its
# stdin is open, and reads units in FOLDER/config/systemd/user. The
# caller enters its namespaces.
set -eu
# As on a machine that systemd has booted, which it asks for.
mount -t tmpfs none /run
# What is killed with these namespaces leaves its segments here.
mount -t tmpfs -o mode=1777 none /dev/shm
mkdir -p -m 700 /run/systemd/system /run/manager
export HOME="$1" XDG_CONFIG_HOME="$1/config" XDG_STATE_HOME="$1/state" XDG_RUNTIME_DIR=/run/manager
export SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_COLOR=0
systemd --user >"$1/log" 2>&1 &
manager=$!
until systemctl --user is-system-running >/dev/null 2>&1; do kill -0 $manager; sleep 0.1; done
echo ready
cat >/dev/null
systemctl --user exit --no-block || true
wait $manager || true
