#!/usr/bin/env bash
# The paper's experiments at the paper's scale, the most important first: tens of hours on one core.
#
#   benchmarks/paper_scale.sh RESULTS [DATA]
#
# RESULTS is the folder for runs and figures; DATA holds the data sets (default: CLBENCH_DATA). Run it from a clone whose commit does not
# change meanwhile, with that clone's .venv. What is in RESULTS is not computed again, so that after an interruption the same command
# resumes at the last saved task. RESULTS/paper-scale.csv has a row for each command that finished: seconds, exit code, commit, command.
set -u
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
results=$1
export CLBENCH_DATA=${2:-${CLBENCH_DATA:?name the folder with the data sets}}
export OMP_NUM_THREADS=1 # one core: other work goes on beside it
clbench=$(dirname "$0")/../.venv/bin/clbench
commit=$(git -C "$(dirname "$0")" rev-parse --short HEAD)
log=$results/paper-scale.csv
mkdir -p "$results"
[ -e "$log" ] || echo "seconds,exit_code,commit,command" >"$log"

do_() {
	local began=$SECONDS code=0
	nice -n 19 "$clbench" "$@" --results "$results" || code=$?
	echo "$((SECONDS - began)),$code,$commit,\"clbench $*\"" >>"$log"
}

figure() { do_ figure "$1" --budget paper --seeds "$2"; }
lenet() { do_ run --budget paper --network lenet-300-100 "$@"; }

# 1. Figure 3 left: LeNet, 250 permutations; the weight methods on 50.
figure fig3-left 0
lenet --method lower-bound --scenario gg --checkpoints 10,50,100,150,200,250
for method in ewc online-ewc si; do lenet --method $method --scenario gns --tasks 50 --checkpoints 10,50; done
figure fig3-left 0,1,2
# 2. Figure 3 right: FC, 250 permutations.
do_ run --budget paper --network fc-1024-1024 --method supsup --scenario gnu --seeds 0,1 --checkpoints 10,50,100,150,200,250 \
	--ask protocol=paper --ask objective=H,G
figure fig3-right 0
# 3. Figure 4: 2,500 permutations, the task given in training or not; then masks that run out.
figure fig4 0
figure masks-out 0
# 4. Figure 5: rotations, and BatchE that infers its tasks.
figure fig5-left 0
figure fig5-right 0
# 5. Figure 6: output sizes, with their companions.
for side in left right; do
	figure fig6-$side 0
	figure fig6-$side-sizes 0
done
# 6. Figure 7: HopSupSup over 20 seeds, by both searches.
figure fig7 "$(seq -s, 0 19)"
# 7. Unlike tasks; van de Ven & Tolias's permuted stream over five seeds.
figure mixed 0
for method in naive ewc online-ewc si; do
	for scenario in gg gns gnu; do
		do_ run --stream permuted-mnist-32 --network mlp-1000x1000 --tasks 10 --updates 5000 --data mnist --checkpoints 10 \
			--method $method --scenario $scenario --seeds 0,1,2,3,4
	done
done
# 8. Figure 2 right: SplitCIFAR100, 250 epochs. Days on a core; hours on a GPU.
figure fig2-right 0
figure fig3-right 0,1
