# Sourced behind server.sh. start_listener DATABASE: a session that listens, and takes what there is every 50 ms, until
# the file "$work/stop" is there; its pid is $!.
start_listener() {
	{
		echo 'LISTEN pgrelay;'
		while [ -d "$work/data" ] && [ ! -e "$work/stop" ]; do
			echo 'SELECT 1;'
			sleep 0.05
		done
	} | server_psql "$1" >/dev/null &
}
