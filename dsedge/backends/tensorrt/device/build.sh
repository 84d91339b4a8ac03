#!/bin/sh
# Builds the engine of this bundle by trtexec, for devices without Python's tensorrt module; build.py calls it there.
#
#   sh build.sh [--any-gpu] [--no-tf32] [--dla CORE] [--help]
#
# Engines to compare with need Python's tensorrt. On 10.x, where the strongly typed graph is preferred, the weakly typed
# one is built where trtexec cannot parse the first: the record says so.
#
# Settings are in build.conf, a keyword and its values in each line; nothing of it is executed. trtexec is looked for on
# PATH and in /usr/src/tensorrt/bin. Where nodes must stay in float32 none is allowed float16 here: Python's tensorrt
# binds those nodes alone. Writes engine.plan, engine.layers.json, engine.log, timing.cache and engine.json.
set -u

fail() {
    echo "build.sh: $*" >&2
    exit 2
}

cd "$(dirname "$0")" || exit 2
[ -f build.conf ] || fail "build.conf is missing: copy the whole bundle"

any_gpu=0 no_tf32=0 dla=""
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --any-gpu) any_gpu=1 ;;
    --no-tf32) no_tf32=1 ;;
    --dla)
        shift
        dla=${1:-}
        case "$dla" in "" | *[!0-9]*) fail "--dla: the number of a core" ;; esac
        ;;
    *) fail "unknown option $1" ;;
    esac
    shift
done

# --- settings
target="" capability="" precision="" workspace="" sparsity="" tf32="" half="" dynamic=""
min_shapes="" opt_shapes="" max_shapes=""
while read -r key value; do
    case "$key" in
    target) target=$value ;;
    compute_capability) capability=$value ;;
    precision) precision=$value ;;
    workspace_mib) workspace=$value ;;
    sparsity) sparsity=$value ;;
    tf32) tf32=$value ;;
    half) half=$value ;;
    dynamic) dynamic=$value ;;
    min_shapes) min_shapes=$value ;;
    opt_shapes) opt_shapes=$value ;;
    max_shapes) max_shapes=$value ;;
    graph) ;;
    *) fail "build.conf: unknown setting $key" ;;
    esac
done <build.conf
[ $no_tf32 -eq 0 ] || tf32=0
[ -z "$dynamic" ] || [ -n "$opt_shapes" ] || fail "no profile for the open axes of $dynamic: compile with --shape"
[ -z "$dla" ] || [ -z "$dynamic" ] || fail "the DLA takes fixed shapes only, and $dynamic has open axes"

# --- TensorRT's version, from trtexec's first line: [TensorRT v8502] is 8.5.2, [TensorRT v100300] is 10.3.0
trtexec=$(command -v trtexec || true)
[ -n "$trtexec" ] || trtexec=/usr/src/tensorrt/bin/trtexec
if [ ! -x "$trtexec" ]; then
    ! python3 -c 'import tensorrt' 2>/dev/null ||
        fail "trtexec is not here, but Python's tensorrt is: run python3 build.py"
    fail "neither Python's tensorrt nor trtexec is here. On a Jetson: sudo apt install nvidia-jetpack; elsewhere: pip" \
        "install tensorrt, then python3 build.py, or a container of nvcr.io/nvidia/tensorrt"
fi
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

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# --- the GPU: nvidia-smi says its compute capability on most machines; trtexec does on all, but only as it builds
warnings=""
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr -d '"\\' | tr -c '[:print:]' ' ')"; }
warn() { warnings="$warnings${warnings:+, }$(quoted "$1")"; }
check_gpu() {
    [ "$1" = "$capability" ] && return
    message="this GPU has compute capability $1, and the bundle is for $target ($capability)"
    [ $any_gpu -eq 1 ] || fail "$message. To build for this one all the same: --any-gpu"
}
found=$(nvidia-smi -i 0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n 's/^ *\([0-9][0-9]*\.[0-9]\) *$/\1/p')
[ -z "$found" ] || check_gpu "$found"

# --- flags that do not depend on the graph
common=""
[ "$sparsity" != 1 ] || common="$common --sparsity=enable"
[ "$tf32" != 0 ] || common="$common --noTF32"
[ -z "$dla" ] || common="$common --useDLACore=$dla --allowGPUFallback"
[ -z "$workspace" ] || common="$common --memPoolSize=workspace:$workspace"
case "$help" in # it came with 8.6, as its help says
*--skipInference*) common="$common --skipInference" ;;
*) common="$common --buildOnly" ;;
esac
set --
[ -z "$opt_shapes" ] ||
    set -- "--minShapes=$min_shapes" "--optShapes=$opt_shapes" "--maxShapes=$max_shapes"

# --- build; files get their names when all of them are whole
stem=engine
trap 'rm -f "$stem.plan.new" "$stem.layers.json.new" "$stem.json.new"' EXIT
trap 'echo "build.sh: interrupted" >&2; exit 130' INT TERM
started=$(date +%s)

# Of a typing: 0 when an engine is built, 1 when there is no graph for it or trtexec cannot parse it.
build_typed() {
    graph=""
    while read -r key kind how hash file; do
        [ "$key $kind $how" != "graph $precision $1" ] || [ -n "$graph" ] || graph=$file recorded=$hash
    done <build.conf
    [ -n "$graph" ] || return 1
    typing=$1 shown=$graph
    shift
    [ -f "$graph" ] || fail "$graph is missing: copy the whole bundle"
    [ "$(sha256_of "$graph")" = "$recorded" ] || fail "$graph is not the file that was compiled: copy the bundle again"
    flags="" allowed=""
    if [ "$typing" = weak ]; then
        case "$precision" in
        int8) flags="--int8" allowed="--fp16" ;;
        fp16) allowed="--fp16" ;;
        bf16)
            case "$help" in *--bf16*) ;; *) fail "TensorRT $version has no bfloat16: 10 has" ;; esac
            allowed="--bf16"
            ;;
        fp32) ;;
        *) fail "$precision has no flag: it needs a strongly typed graph" ;;
        esac
        [ "$half" = 0 ] || flags="$flags $allowed"
    elif [ $major -lt 11 ]; then
        flags=--stronglyTyped
    fi
    flags="$flags$common"
    echo "TensorRT $version builds $stem.plan from $graph; this takes minutes, see $stem.log"
    # shellcheck disable=SC2086 # each flag is one word
    "$trtexec" "--onnx=$graph" "--saveEngine=$stem.plan.new" --timingCacheFile=timing.cache \
        --profilingVerbosity=detailed "--exportLayerInfo=$stem.layers.json.new" $flags "$@" >"$stem.log" 2>&1 && return
    ! grep -q 'Parsing model failed' "$stem.log" || return 1
    grep '\[E\]' "$stem.log" | tail -n 5 >&2
    fail "trtexec failed; all that it said is in $stem.log"
}

shown="" unread=""
for typing in $typings; do
    ! build_typed "$typing" "$@" || break
    if [ -n "$graph" ]; then
        said=$(sed -n 's/.*\[E\] *//p' "$stem.log" | sed -n 1p | cut -c 1-300)
        warn "TensorRT $version cannot read $graph: $said"
        unread="$unread$graph: $said; "
    fi
    graph=""
done
[ -n "$shown" ] || fail "no graph for $precision that TensorRT $version reads ($typings typing)"
[ -n "$graph" ] || fail "TensorRT $version cannot read ${unread%; }"
[ "$half" != 0 ] || [ "$typing" = strong ] ||
    warn "nothing computes in float16: it loses too much, or some nodes must not, and trtexec cannot bind them"
[ -z "$unread" ] || warn "$stem.plan is built from $graph, ${typing}ly typed"
[ -s "$stem.plan.new" ] && [ -s "$stem.layers.json.new" ] || fail "trtexec wrote no engine or no layer information; see $stem.log"
! grep -q 'Automatically overriding shape' "$stem.log" || fail "an input has open axes and no profile: compile with --shape"
found=$(sed -n 's/.*Compute Capability: \([0-9.]*\).*/\1/p' "$stem.log" | sed -n 1p)
[ -n "$found" ] || fail "trtexec does not say for which GPU it built; see $stem.log"
check_gpu "$found"
[ "$found" = "$capability" ] || warn "$message"

tf32_used=true
case "$found" in [1-7].*) tf32_used=false ;; esac
[ "$tf32" != 0 ] && [ "${NVIDIA_TF32_OVERRIDE:-1}" != 0 ] || tf32_used=false
[ -z "$dla" ] || warn "unverified: dsedge never ran on a DLA; that of TensorRT 8.5 takes no Q/DQ, which then runs on the GPU"
name=$(sed -n 's/.*Selected Device: //p' "$stem.log" | sed -n 1p)
cat >"$stem.json.new" <<EOF
{"schema": 1, "made_by": "trtexec", "tensorrt": "$version",
 "gpu": {"name": $(quoted "$name"), "compute_capability": "$found"},
 "flags": ["$(printf '%s' "$flags" | sed 's/^ *//; s/  */", "/g')"],
 "os": $(quoted "$(uname -srm)"), "seconds": $(($(date +%s) - started)),
 "graph": {"file": "$graph", "sha256": "$recorded"},
 "engine": {"file": "$stem.plan", "sha256": "$(sha256_of "$stem.plan.new")"},
 "precision": "$precision", "tf32": $tf32_used, "tf32_allowed": $([ "$tf32" = 0 ] && echo false || echo true),
 "settings": "$(sha256_of build.json)", "warnings": [$warnings]}
EOF
mv "$stem.layers.json.new" "$stem.layers.json"
mv "$stem.plan.new" "$stem.plan"
mv "$stem.json.new" "$stem.json"
echo "$stem.plan is built"
