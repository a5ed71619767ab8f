# shellcheck shell=bash
# A Ray cluster inside a Slurm allocation, for as long as one command runs. Sourced by the scripts beside it:
#
#     . slurm/ray_cluster.sh
#     run_on_ray matgen run symmcd_mp20 --out runs/mp20
#
# What a site may want to change goes into slurm/site.sh, which is read first where it exists:
#     module load python/3.11 cuda/12     . ~/venvs/matgen/bin/activate
#     MATGEN_RUN="apptainer exec --nv matgen.sif"     what every command is started with
#     MATGEN_TMP=/scratch/local/$USER                 a short path, local to each node (default /tmp)
#     MATGEN_INTERFACE=ib0                            the network that the nodes talk over (default: the first)
#
# Nobody else may use this Ray: each job has a token, in a file that only you can read, gone when the job ends.
# Set here for the command: RAY_ADDRESS, NUM_NODES, CPUS, GPUS (of a node), ALL_CPUS, ALL_GPUS.

if [ -f slurm/site.sh ]; then . slurm/site.sh; fi
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
read -ra MATGEN_PREFIX <<<"${MATGEN_RUN:-}"

NUM_NODES=${SLURM_JOB_NUM_NODES:-${SLURM_NNODES:-1}}
CPUS=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
GPUS=${SLURM_GPUS_ON_NODE:-0}
ALL_CPUS=$((NUM_NODES * CPUS)) ALL_GPUS=$((NUM_NODES * GPUS))
MAX_REQUEUES=${MATGEN_MAX_REQUEUES:-20}
say() { echo "[$(date +%T)] job $SLURM_JOB_ID: $*" >&2; }

# step NODES TASKS SRUN-OPTION... -- COMMAND...: one task a node, beside whatever else runs in this job.
step() {
    local nodes=$1; shift
    srun --overlap --no-kill --export=ALL --kill-on-bad-exit=0 --wait=0 --cpus-per-task="$CPUS" \
        --nodes="$nodes" --ntasks="$nodes" "$@"
}

start_ray() {
    local head temp options again agents
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    if [ -n "${MATGEN_INTERFACE:-}" ]; then
        HEAD_IP=$(ip -4 -o addr show "$MATGEN_INTERFACE" | awk '{sub("/.*", "", $4); print $4; exit}')
    else
        HEAD_IP=$(hostname -I | awk '{print $1}')
    fi
    PORT=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a head node stay apart
    temp=${MATGEN_TMP:-/tmp}/ray-$(id -u)-$SLURM_JOB_ID
    export RAY_ADDRESS=$HEAD_IP:$PORT RAY_TMP=$temp RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0
    if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then rm -rf .slurm/job-"$SLURM_JOB_ID"-*; fi # of a head that lost power
    RAY_FILES=$(umask 077 && mkdir -p .slurm && mktemp -d "$PWD/.slurm/job-$SLURM_JOB_ID-XXXXXX") # for you alone
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_FILES/token
    (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
    agents=$((10000 + 4 * (SLURM_JOB_ID % 2500))) # given, so that a raylet need not wait for its agents
    options=(--num-cpus="$CPUS" --num-gpus="$GPUS" --min-worker-port=0 --max-worker-port=0 --disable-usage-stats
        --dashboard-agent-listen-port=$agents --dashboard-agent-grpc-port=$((agents + 1))
        --runtime-env-agent-port=$((agents + 2)) --metrics-export-port=$((agents + 3))
        --object-store-memory=$((${MATGEN_OBJECT_STORE_MB:-500} * 1048576)) --block)
    # Ray gives a head 30 s to start, which a busy node or a slow file system may not manage: three tries, until it is up.
    tries='trap "kill \$!; wait; exit 0" TERM INT; for _ in 1 2 3; do "$@" & wait $!; [ -e "$0" ] && break; pkill -KILL -f "$RAY_TMP/session"; done; exit 1'
    step 1 -w "$head" bash -c "$tries" "$RAY_FILES/up" "${MATGEN_PREFIX[@]}" python slurm/start_ray.py --head --node-ip-address="$HEAD_IP" --port="$PORT" \
        --temp-dir="$temp" --dashboard-host=127.0.0.1 --dashboard-port=$((PORT + 10000)) "${options[@]}" >"$RAY_FILES/head.log" 2>&1 &
    HEAD_STEP=$! WORKER_STEP=
    if [ "$NUM_NODES" -gt 1 ]; then
        # A raylet that dies, or is there before the head, is started again.
        again='trap "kill \$!; wait; exit 0" TERM INT; while :; do "$@" & wait $!; pkill -KILL -f "$RAY_TMP/session"; sleep 1; done'
        step $((NUM_NODES - 1)) -x "$head" bash -c "$again" raylet "${MATGEN_PREFIX[@]}" \
            python slurm/start_ray.py --address="$RAY_ADDRESS" "${options[@]}" >"$RAY_FILES/workers.log" 2>&1 &
        WORKER_STEP=$!
    fi
    "${MATGEN_PREFIX[@]}" python slurm/wait_for_ray.py "$NUM_NODES" --seconds "${MATGEN_RAY_WAIT_S:-600}" &
    DRIVER=$!
    wait -n "$DRIVER" "$HEAD_STEP" || true
    if ! kill -0 "$HEAD_STEP" 2>/dev/null || ! wait "$DRIVER"; then
        say "Ray did not come up; the ends of its logs:"
        tail -n 15 "$RAY_FILES"/*.log >&2
        return 1
    fi
    touch "$RAY_FILES/up"
    say "Ray is up at $RAY_ADDRESS: $NUM_NODES nodes, $ALL_CPUS CPUs, $ALL_GPUS GPUs"
}

stop_ray() {
    trap '' USR1 TERM INT
    kill ${WORKER_STEP:-} ${HEAD_STEP:-} 2>/dev/null
    wait ${WORKER_STEP:-} ${HEAD_STEP:-} 2>/dev/null
    timeout 20 srun --overlap --no-kill --nodes="$NUM_NODES" --ntasks="$NUM_NODES" rm -rf "$RAY_TMP" 2>/dev/null
    rm -rf "$RAY_TMP" "$RAY_FILES"
}

# Queue this job again, unless it was too often.
requeue() {
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$MAX_REQUEUES" ]; then
        say "$1; queued again $MAX_REQUEUES times already, so this is the end"
        return 1
    fi
    say "$1; queueing the job again"
    scontrol requeue "$SLURM_JOB_ID"
}

# run_on_ray COMMAND...: with its exit code. At the time limit (USR1, see --signal in the scripts) the command is told to
# stop, which it does with a checkpoint, and the job is queued again; so it is when the head of the cluster is gone.
run_on_ray() {
    local code=0 told=''
    trap 'stop_ray' EXIT
    start_ray || return 1
    trap 'told=USR1; kill -USR1 "$DRIVER" 2>/dev/null' USR1
    trap 'told=TERM; kill -TERM "$DRIVER" 2>/dev/null' TERM INT
    say "$*"
    "${MATGEN_PREFIX[@]}" "$@" &
    DRIVER=$!
    while kill -0 "$DRIVER" 2>/dev/null; do # a trapped signal ends a wait
        wait -n "$DRIVER" "$HEAD_STEP" 2>/dev/null
        kill -0 "$HEAD_STEP" 2>/dev/null || { sleep 1; kill -KILL "$DRIVER" 2>/dev/null; break; }
    done
    wait "$DRIVER" || code=$?
    if [ "$code" != 0 ] && [ "$told" != TERM ]; then # after a requeue Slurm ends this script
        if [ "$told" = USR1 ]; then
            requeue "out of time" && sleep 60
        elif ! kill -0 "$HEAD_STEP" 2>/dev/null; then
            requeue "the head of the Ray cluster is gone" && sleep 60
        fi
    fi
    say "exit code $code"
    return "$code"
}
