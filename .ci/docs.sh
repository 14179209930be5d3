#!/usr/bin/env bash
# docs.sh CACHE: builds the documents as a book into target/docs/book. Installs mdBook into CACHE the first time (some minutes).
set -euo pipefail
cache=${1:?usage: docs.sh CACHE}
version=0.5.4
cd "$(dirname "$0")/.."

mdbook=$cache/mdbook-$version/bin/mdbook
if [ ! -x "$mdbook" ]; then
    echo "installing mdBook $version"
    # Without its server and its watch for changes, which bring half of its dependencies.
    cargo install mdbook --version "$version" --locked --quiet --no-default-features --features search --root "$cache/mdbook-$version"
fi

# The pages where they are in the repository, and what they link to besides pages. SUMMARY.md lies in docs/, so that its links can
# be followed there too, and is the source's top page here.
source=target/docs/source
rm -rf target/docs
mkdir -p $source/gateway/proto
cp ./*.md LICENSE $source/
cp -r docs configs $source/
cp -r gateway/proto/vectors $source/gateway/proto/
mv $source/docs/SUMMARY.md $source/SUMMARY.md
sed -i -E 's#\]\(#](docs/#; s#\]\(docs/\.\./#](#' $source/SUMMARY.md
# mdBook makes README.md the index of its folder, and leaves links to it as they are.
find $source -name README.md -execdir mv {} index.md ';'
find $source -name '*.md' -exec sed -i -E 's#(\]\([^):]*)README\.md#\1index.md#g' {} +

"$mdbook" build
echo "target/docs/book/index.html"
