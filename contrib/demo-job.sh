#!/bin/sh
# The demo job of quickstart.sh: looks at this host for a few seconds, and prints what it sees as it goes.
interval=0.25
samples=12

echo "$(uname -srm), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg)"
df -h / 2>&1
echo "this line went to standard error" >&2

# user, nice, system and idle time of all CPUs so far
cpu_times() {
    read -r _ user nice system idle _ </proc/stat
    busy=$((user + nice + system))
    total=$((busy + idle))
}

cpu_times
n=1
while [ $n -le $samples ]; do
    before_busy=$busy before_total=$total
    sleep $interval
    cpu_times
    spent=$((total - before_total))
    percent=$((spent > 0 ? 100 * (busy - before_busy) / spent : 0))
    free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
    printf 'sample %2d of %d: CPU %3d %%, %d MB available, %d processes\n' \
        $n $samples $percent "$free" "$(printf '%s\n' /proc/[0-9]* | wc -l)"
    n=$((n + 1))
done
echo "done ✓"
