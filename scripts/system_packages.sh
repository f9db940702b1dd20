#!/usr/bin/env bash
# Install chromium and poppler-utils with Debian's package manager where they are missing and that is possible.
# The tests that need them are skipped where they are not there, and fail where WHYCAM_NEEDS_ALL=1 says that they must be.
set -euo pipefail
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v pdffonts >/dev/null || missing+=(poppler-utils)
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed: ${missing[*]}; the tests that need them are skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
