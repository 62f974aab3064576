#!/bin/bash
# Make what `tests/vm` boots, in build/cache/vm: Debian's kernel (unpacked, not installed), its modules
# and an initramfs. Does nothing when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$PWD/build/cache/vm

# What the initramfs loads itself; all else is loaded from /lib/modules later.
EARLY="virtio_pci 9pnet_virtio 9p overlay"
# Drivers of hardware that the machine does not have: nine tenths of the package.
LEFT_OUT="sound drivers/gpu drivers/media drivers/staging drivers/infiniband drivers/iio drivers/hid
    drivers/usb drivers/scsi drivers/net/wireless drivers/net/ethernet drivers/hwmon drivers/isdn"

inputs=$(cat "$0" tests/vm/init | sha256sum | cut -c 1-16)
[ "$(cat "$target/inputs" 2>/dev/null)" = "$inputs" ] && exit 0
[ "$(dpkg --print-architecture)" = amd64 ] || { echo "the virtual machine of the tests is for amd64" >&2; exit 1; }

mkdir -p "$target"
work=$(mktemp -d "$target/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
newest() {
    apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}
package=$(newest)
[ -n "$package" ] || { apt-get -q update >/dev/null && package=$(newest); }
[ -n "$package" ] || { echo "apt knows no linux-image-amd64" >&2; exit 1; }
(cd "$work" && apt-get -q download "$package" >download.log 2>&1) || { cat "$work/download.log" >&2; exit 1; }
release=${package#linux-image-}
excludes=()
for directory in $LEFT_OUT; do
    excludes+=("--exclude=./lib/modules/$release/kernel/$directory")
done
dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work" "${excludes[@]}" ./lib "./boot/vmlinuz-$release"
rm "$work"/*.deb
depmod -b "$work" "$release"

stage=$work/stage
mkdir -p "$stage"/{bin,dev,proc,sys,lower,upper,new,modules}
cp /bin/busybox "$stage/bin/busybox"
cp tests/vm/init "$stage/init"
chmod 755 "$stage/init"
number=10
for name in $EARLY; do
    modprobe -d "$work" -S "$release" --show-depends "$name" | while read -r word path _; do
        [ "$word" = insmod ] || continue
        [ -e "$stage/modules/done-$(basename "$path")" ] && continue
        touch "$stage/modules/done-$(basename "$path")"
        cp "$path" "$stage/modules/$number-$(basename "$path")"
        number=$((number + 1))
    done
    number=$((number + 20))
done
rm "$stage"/modules/done-*
(cd "$stage" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs"
rm -rf "$stage"

rm -rf "$target/lib" "$target/vmlinuz" "$target/initramfs"
mv "$work/lib" "$target/lib"
mv "$work/boot/vmlinuz-$release" "$target/vmlinuz"
mv "$work/initramfs" "$target/initramfs"
echo "$release" >"$target/release"
echo "$inputs" >"$target/inputs"
