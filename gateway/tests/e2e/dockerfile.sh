#!/usr/bin/env bash
# dockerfile.sh DOCKERFILE CONTEXT TARGET OUT: builds a two-stage Dockerfile without Docker, as root, in a mount namespace.
#
# The first stage runs in a root that has this machine's folders and an empty WORKDIR; TARGET holds its target/ from run to run.
# The files of the second stage go to OUT/image, and what it says of a start to OUT/image.env (shell variables).
# BUILD_ARGS="NAME=VALUE …" are --build-arg. An instruction that is not known here is an error.
set -euo pipefail
if [ -z "${IN_NAMESPACE:-}" ]; then
    # The mounts below live and end with this namespace: a caller that removes OUT never reaches through one.
    exec env IN_NAMESPACE=1 unshare --mount --propagation private "$0" "$@"
fi
dockerfile=$(realpath "$1") context=$(realpath "$2") target=$(realpath "$3") out=$(realpath "$4")
root=$out/build-root
image=$out/image
mkdir -p "$root" "$image"

# A root of its own: every folder of the machine's, and what the stage adds beside them.
mount -t tmpfs -o mode=755 tmpfs "$root"
for entry in /*; do
    name=${entry#/}
    if [ -L "$entry" ]; then
        cp -a "$entry" "$root/$name"
    elif [ "$name" = tmp ]; then
        mkdir -m 1777 "$root/tmp"
    elif [ -d "$entry" ]; then
        mkdir "$root/$name"
        mount --rbind "$entry" "$root/$name"
    fi
done

# The instructions, one a line: without comments, continued lines joined.
instructions() { sed '/^[[:space:]]*#/d' "$dockerfile" | sed -e ':a' -e '/\\$/{N;s/\\\n//;ba}' -e '/^[[:space:]]*$/d'; }
# A JSON list of words without blanks.
words() { tr -d '[]",' <<<"${1//,/ }"; }

# What the context leaves out.
excluded=()
while read -r pattern; do
    case $pattern in
    '' | '#'*) ;;
    '**/'*) excluded+=(--no-anchored --exclude="${pattern#'**/'}") ;;
    *) excluded+=(--anchored --exclude="$pattern") ;;
    esac
done <"$context/.dockerignore"

# copy SOURCE… DESTINATION: from the context; a folder's contents, or files into a folder (its name ends with /) or under a name.
copy() {
    local destination=${*: -1} source
    [ "${destination#/}" != "$destination" ] || destination=$directory/$destination
    for source in "${@:1:$#-1}"; do
        if [ -d "$context/$source" ]; then
            mkdir -p "$root$destination"
            tar -C "$context" "${excluded[@]}" -c "$source" | tar -C "$root$destination" --strip-components "$(grep -o / <<<"$source/" | wc -l)" -x
        elif [ "${destination%/}" != "$destination" ]; then
            mkdir -p "$root$destination"
            cp -p "$context/$source" "$root$destination"
        else
            mkdir -p "$root$(dirname "$destination")"
            cp -p "$context/$source" "$root$destination"
        fi
    done
}

# run COMMAND: in the stage's root and folder.
run() {
    echo "RUN $1" | cut -c 1-150
    if [ -d "$root$directory" ] && [ "$directory" != / ] && ! mountpoint -q "$root$directory/target"; then
        mkdir -p "$root$directory/target"
        mount --bind "$target" "$root$directory/target"
    fi
    chroot "$root" /bin/sh -ec "cd '$directory' && $1"
}

stage=0 directory=/ environment= user=0 entrypoint= command= health=
while read -r instruction rest; do
    case $stage:$instruction in
    [01]:FROM)
        stage=$((stage + 1)) directory=/
        [ "$stage" = 1 ] || [ "$rest" = scratch ] || { echo "FROM $rest: the second stage begins from scratch" >&2; exit 1; }
        ;;
    1:WORKDIR)
        directory=$rest
        [ ! -e "$root$directory" ] || { echo "WORKDIR $rest is there already" >&2; exit 1; }
        mkdir -p "$root$directory"
        ;;
    1:COPY)
        read -ra arguments <<<"$rest"
        copy "${arguments[@]}"
        ;;
    1:ARG)
        eval "export $rest"
        eval "export ${BUILD_ARGS:-BUILD_ARGS=}"
        ;;
    1:ENV) eval "export $rest" ;;
    # What Debian packages this needs is on the machine, or the build fails.
    1:RUN) [[ $rest == apt-get\ * ]] || run "$rest" ;;
    2:COPY)
        read -r from source destination <<<"$rest"
        [ "$from" = --from=build ] || { echo "COPY $rest: from the first stage only" >&2; exit 1; }
        mkdir -p "$image$destination"
        cp -a "$root$source/." "$image$destination"
        ;;
    2:ENV) environment="$environment $rest" ;;
    2:USER) user=$rest ;;
    2:ENTRYPOINT) entrypoint=$(words "$rest") ;;
    2:CMD) command=$(words "$rest") ;;
    2:HEALTHCHECK) health=$(words "${rest#*CMD }") ;;
    2:EXPOSE | 2:STOPSIGNAL) ;;
    *)
        echo "$instruction: not known in stage $stage" >&2
        exit 1
        ;;
    esac
done < <(instructions)
printf '%s=(%s)\n' image_environment "$environment" image_user "${user//:/ }" image_entrypoint "$entrypoint" \
    image_command "$command" image_health "$health" >"$out/image.env"
