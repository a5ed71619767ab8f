#!/usr/bin/env bash
# Install what the tests on a real Slurm need (Debian, Ubuntu; root). None of its services is started: the tests start
# their own, each node in namespaces of its own, and take them down again.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
if [ ! -e /usr/sbin/policy-rc.d ]; then # so that no service starts by itself
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2 procps >/dev/null
