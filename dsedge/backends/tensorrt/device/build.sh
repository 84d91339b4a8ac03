#!/bin/sh
# Builds the engine of this bundle by trtexec, for devices without Python's tensorrt module; build.py calls it there.
#
#   sh build.sh [PRECISION] [--any-gpu]
#
# Settings are in build.conf, a keyword and its values in each line; nothing of it is executed. trtexec is looked for on
# PATH and in /usr/src/tensorrt/bin. Writes engine.plan, engine.layers.json, engine.log, timing.cache and engine.json.
set -u

fail() {
    echo "build.sh: $*" >&2
    exit 2
}

cd "$(dirname "$0")" || exit 2
[ -f build.conf ] || fail "build.conf is missing: copy the whole bundle"

any_gpu=0
asked=""
for argument in "$@"; do
    case "$argument" in
    --any-gpu) any_gpu=1 ;;
    -*) fail "unknown option $argument" ;;
    *) asked=$argument ;;
    esac
done

# --- settings
target="" capability="" own="" workspace="" sparsity="" dla="" fallback="" level="" dynamic=""
min_shapes="" opt_shapes="" max_shapes=""
while read -r key value; do
    case "$key" in
    target) target=$value ;;
    compute_capability) capability=$value ;;
    precision) own=$value ;;
    workspace_mib) workspace=$value ;;
    sparsity) sparsity=$value ;;
    dla) dla=$value ;;
    gpu_fallback) fallback=$value ;;
    optimization_level) level=$value ;;
    dynamic) dynamic=$value ;;
    min_shapes) min_shapes=$value ;;
    opt_shapes) opt_shapes=$value ;;
    max_shapes) max_shapes=$value ;;
    graph) ;;
    *) fail "build.conf: unknown setting $key" ;;
    esac
done <build.conf
precision=${asked:-$own}
[ -z "$dynamic" ] || [ -n "$opt_shapes" ] || fail "no profile for the open axes of $dynamic: compile with --shape"

# --- TensorRT's version, from trtexec's first line: [TensorRT v8502] is 8.5.2, [TensorRT v100300] is 10.3.0
trtexec=$(command -v trtexec || true)
[ -n "$trtexec" ] || trtexec=/usr/src/tensorrt/bin/trtexec
[ -x "$trtexec" ] || fail "neither Python's tensorrt nor trtexec is here. On a Jetson: sudo apt install nvidia-jetpack"
help=$("$trtexec" --help 2>&1)
banner=$(printf '%s\n' "$help" | sed -n 's/.*TensorRT\.trtexec \[TensorRT v\([0-9]*\)\].*/\1/p' | sed -n 1p)
case "$banner" in
"") fail "$trtexec does not say its version" ;;
?????*) major=$((banner / 10000)) minor=$((banner / 100 % 100)) patch=$((banner % 100)) ;;
*) major=$((banner / 1000)) minor=$((banner / 100 % 10)) patch=$((banner % 100)) ;;
esac
version=$major.$minor.$patch
release=$((major * 100 + minor))

# --- what this version reads; as TYPINGS and DLA_TYPINGS in build.py
if [ -n "$dla" ]; then
    if [ $release -ge 805 ] && [ $release -lt 1008 ]; then
        typings=weak
    elif [ $release -ge 1104 ] && [ $major -lt 12 ]; then
        typings=strong
    else
        fail "the DLA needs TensorRT 8.5 to 10.7, or 11.4 and later, and this is $version"
    fi
elif [ $release -lt 805 ] || [ $major -ge 12 ]; then
    fail "TensorRT 8.5 to 11 is needed, and this is $version"
elif [ $major -ge 11 ]; then
    typings=strong
elif [ $major -eq 10 ]; then
    typings="strong weak"
else
    typings=weak
fi

graph="" typing="" recorded=""
for wanted in $typings; do
    while read -r key kind how hash file; do
        if [ -z "$graph" ] && [ "$key $kind $how" = "graph $precision $wanted" ]; then
            graph=$file typing=$how recorded=$hash
        fi
    done <build.conf
done
[ -n "$graph" ] || fail "no graph for $precision that TensorRT $version reads ($typings typing)"
[ -f "$graph" ] || fail "$graph is missing: copy the whole bundle"
sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }
[ "$(sha256_of "$graph")" = "$recorded" ] || fail "$graph is not the file that was compiled: copy the bundle again"

# --- the GPU: nvidia-smi says its compute capability on most machines; trtexec does on all, but only as it builds
warnings=""
check_gpu() {
    [ "$1" = "$capability" ] && return
    message="this GPU has compute capability $1, and the bundle is for $target ($capability)"
    [ $any_gpu -eq 1 ] || fail "$message. To build for this one all the same: --any-gpu"
    warnings=$message
}
found=$(nvidia-smi -i 0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n 's/^ *\([0-9][0-9]*\.[0-9]\) *$/\1/p')
[ -z "$found" ] || check_gpu "$found"

# --- flags
stem=engine
[ "$precision" = "$own" ] || stem=engine.$precision
set -- "--onnx=$graph" "--saveEngine=$stem.plan.new" --timingCacheFile=timing.cache \
    --profilingVerbosity=detailed "--exportLayerInfo=$stem.layers.json.new"
flags=""
if [ "$typing" = weak ]; then
    case "$precision" in
    int8) flags="--int8 --fp16" ;;
    fp16) flags="--fp16" ;;
    bf16) flags="--bf16" ;;
    fp32) ;;
    *) fail "$precision has no flag: it needs a strongly typed graph" ;;
    esac
elif [ $major -lt 11 ]; then
    flags=--stronglyTyped
fi
[ "$sparsity" != 1 ] || flags="$flags --sparsity=enable"
[ -z "$dla" ] || flags="$flags --useDLACore=$dla"
[ "$fallback" != 1 ] || flags="$flags --allowGPUFallback"
[ -z "$workspace" ] || flags="$flags --memPoolSize=workspace:$workspace"
case "$help" in # both came with 8.6, as its help says
*--builderOptimizationLevel*) [ -z "$level" ] || flags="$flags --builderOptimizationLevel=$level" ;;
esac
case "$help" in
*--skipInference*) flags="$flags --skipInference" ;;
*) flags="$flags --buildOnly" ;;
esac
# shellcheck disable=SC2086 # each flag is one word
set -- "$@" $flags
[ -z "$opt_shapes" ] ||
    set -- "$@" "--minShapes=$min_shapes" "--optShapes=$opt_shapes" "--maxShapes=$max_shapes"

# --- build; files get their names when all of them are whole
trap 'rm -f "$stem.plan.new" "$stem.layers.json.new" "$stem.json.new"' EXIT
trap 'exit 130' INT TERM
started=$(date +%s)
echo "TensorRT $version builds $stem.plan from $graph; this takes minutes, see $stem.log"
"$trtexec" "$@" >"$stem.log" 2>&1 || {
    grep '\[E\]' "$stem.log" | tail -n 5 >&2
    fail "trtexec failed; all that it said is in $stem.log"
}
[ -s "$stem.plan.new" ] && [ -s "$stem.layers.json.new" ] || fail "trtexec wrote no engine or no layer information; see $stem.log"
! grep -q 'Automatically overriding shape' "$stem.log" || fail "an input has open axes and no profile: compile with --shape"
found=$(sed -n 's/.*Compute Capability: \([0-9.]*\).*/\1/p' "$stem.log" | sed -n 1p)
[ -n "$found" ] || fail "trtexec does not say for which GPU it built; see $stem.log"
check_gpu "$found"

quoted() { printf '%s' "$1" | tr -d '"\\' | tr -c '[:print:]' ' '; }
name=$(sed -n 's/.*Selected Device: //p' "$stem.log" | sed -n 1p)
cat >"$stem.json.new" <<EOF
{"schema": 1, "made_by": "trtexec", "tensorrt": "$version",
 "gpu": {"name": "$(quoted "$name")", "compute_capability": "$found"},
 "flags": ["$(printf '%s' "$flags" | sed 's/^ *//; s/  */", "/g')"],
 "os": "$(quoted "$(uname -srm)")", "seconds": $(($(date +%s) - started)),
 "graph": {"file": "$graph", "sha256": "$recorded"},
 "engine": {"file": "$stem.plan", "sha256": "$(sha256_of "$stem.plan.new")"},
 "warnings": [$([ -z "$warnings" ] || printf '"%s"' "$(quoted "$warnings")")]}
EOF
mv "$stem.layers.json.new" "$stem.layers.json"
mv "$stem.plan.new" "$stem.plan"
mv "$stem.json.new" "$stem.json"
echo "$stem.plan is built"
