#!/bin/bash
# File trees of Debian releases with other database servers in them, made once and kept between runs:
#
#   images.sh [SUITE...]      makes what is missing (default: all), one line per suite
#   images.sh --list          what is there already
#
#   bullseye  MariaDB 10.5        trixie  MariaDB 11.8        sid  MySQL 9
#
# A tree is a folder, not a container: CACHE/SUITE/root. The programs in it are called by CACHE/SUITE/bin/NAME, which gives them
# the tree as root, the host's /tmp, TANDEM_SANDBOX_DIR, /proc, /dev and network, and becomes the program (same process id, so it can be stopped by it).
# Each line of the output is "SUITE ready FOLDER" or "SUITE skipped REASON"; the status is 0 when all are ready.
#
# Environment: TANDEM_TEST_CACHE the cache (default /var/cache/tandem-test); TANDEM_TEST_MIRROR the Debian archive (default the
# host's own); TANDEM_IMAGE_SECONDS how long one suite may take (default 600).
set -uo pipefail

cache=${TANDEM_TEST_CACHE:-/var/cache/tandem-test}
limit=${TANDEM_IMAGE_SECONDS:-600}
suites="bullseye trixie sid"

# What a suite needs beyond the smallest system. The core packages bring the programs and no service.
packages_of() {
	case $1 in
	bullseye) echo mariadb-server-core-10.5,mariadb-client-core-10.5 ;;
	trixie) echo mariadb-server-core,mariadb-client-core ;;
	sid) echo mysql-server-core,mysql-client-core ;;
	*) return 1 ;;
	esac
}

# The archive the host itself installs from; old releases may have left it.
mirrors() {
	if [ -n "${TANDEM_TEST_MIRROR:-}" ]; then
		echo "$TANDEM_TEST_MIRROR"
		return
	fi
	cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		grep -Eo 'https?://[^ ]+/debian/?( |$)' | sed 's,/* *$,,' | sort -u | head -1 | grep . ||
		echo http://deb.debian.org/debian
	echo http://archive.debian.org/debian
}

# wrapper NAME PATH: a command that runs a program of the tree. The mounts are in a namespace of its own and end with it.
wrapper() {
	cat >"$folder/bin/$1" <<-END
	#!/bin/sh
	# Made by images.sh.
	root=$folder/root program=$2
	export root program
	exec unshare --mount --propagation private /bin/sh -c '
		for shared in /proc /dev /tmp \$TANDEM_SANDBOX_DIR; do
			mkdir -p "\$root\$shared" && mount --rbind "\$shared" "\$root\$shared" || exit 125
		done
		exec chroot "\$root" "\$program" "\$@"' "\$program" "\$@"
	END
	chmod +x "$folder/bin/$1"
}

wrappers() {
	local name path
	mkdir -p "$folder/bin"
	# mariadb-install-db insists on a name for this machine.
	grep -qs localhost "$folder/root/etc/hosts" || echo 127.0.0.1 localhost >>"$folder/root/etc/hosts"
	for name in mariadbd mariadb mariadb-install-db mysqld mysql mysql_install_db; do
		for path in /usr/sbin/$name /usr/bin/$name; do
			if [ -e "$folder/root$path" ]; then
				wrapper "$name" "$path"
				break
			fi
		done
	done
}

bootstrap() {
	local suite=$1 mirror=$2
	rm -rf "$folder/root.new"
	timeout "$limit" debootstrap --variant=minbase --include="$(packages_of "$suite")" \
		"$suite" "$folder/root.new" "$mirror" >"$folder/log" 2>&1
}

make_tree() {
	local suite=$1 mirror
	if [ "$(id -u)" != 0 ]; then
		echo "only root can make it" >"$folder/log"
		return 1
	elif ! command -v debootstrap >/dev/null; then
		echo "no debootstrap" >"$folder/log"
		return 1
	fi
	for mirror in $(mirrors); do
		if bootstrap "$suite" "$mirror"; then
			rm -rf "$folder/root.new/var/cache/apt/archives" "$folder/root.new/var/lib/apt/lists"
			mv "$folder/root.new" "$folder/root"
			return 0
		fi
	done
	# What was fetched goes; the log stays.
	rm -rf "$folder/root.new"
	return 1
}

# One suite: under its own lock, because two runs may want it at the same time.
one() {
	local suite=$1
	folder=$cache/$suite
	if ! packages_of "$suite" >/dev/null; then
		echo "$suite skipped no such suite"
		return 1
	fi
	if ! mkdir -p "$folder" 2>/dev/null; then
		echo "$suite skipped cannot write $cache"
		return 1
	fi
	exec 8>"$folder/lock"
	flock 8
	if [ ! -d "$folder/root" ] && ! make_tree "$suite" 8>&-; then
		echo "$suite skipped $(tail -1 "$folder/log")"
		return 1
	fi
	wrappers
	echo "$suite ready $folder"
}

status=0
if [ "${1:-}" = --list ]; then
	for suite in $suites; do
		[ -d "$cache/$suite/root" ] && echo "$suite ready $cache/$suite"
	done
	exit 0
fi
for suite in ${@:-$suites}; do
	one "$suite" || status=1
done
exit $status
