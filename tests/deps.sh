#!/usr/bin/env bash
# Installs what building, testing and using quern needs on Debian 12 or 13, if it is missing.
set -eu
llvm=llvm-19-dev
want="build-essential cmake ninja-build pkg-config clang $llvm liblua5.4-dev libffi-dev libcriterion-dev libdlpack-dev"
missing=""
for p in $want; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q "ok installed" || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
sudo=""
if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
