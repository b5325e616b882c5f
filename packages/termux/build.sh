# A recipe for termux-packages (https://github.com/termux/termux-packages). It follows that
# project's wiki, and its install step is run by a test; in Termux's builder it was not run.
#
#   ./vpnshare bundle --python 3.12 packages/termux/bundle.tar     with Termux's own Python
#   cp -R packages/termux TERMUX-PACKAGES/packages/vpnshare
#   cd TERMUX-PACKAGES && scripts/run-docker.sh ./build-package.sh -I vpnshare
#
# A homepage, which termux-packages asks for, is for whoever publishes it to name.
TERMUX_PKG_HOMEPAGE=""
TERMUX_PKG_DESCRIPTION="Share the VPN of a phone with the devices beside it"
TERMUX_PKG_LICENSE="Apache-2.0"
TERMUX_PKG_MAINTAINER="@termux"
TERMUX_PKG_VERSION="0.2.0"
TERMUX_PKG_SKIP_SRC_EXTRACT=true
TERMUX_PKG_PLATFORM_INDEPENDENT=true
# cryptography is compiled, and packaged there; all else is Python, and comes along.
TERMUX_PKG_DEPENDS="python, python-cryptography"
TERMUX_PKG_SUGGESTS="termux-api, termux-services, openssh"

termux_step_make_install() {
	local source="$TERMUX_PKG_SRCDIR/vpnshare-$TERMUX_PKG_VERSION"
	local lib="$TERMUX_PREFIX/lib/vpnshare"
	local site="$lib/venv/lib/python$TERMUX_PYTHON_VERSION/site-packages"
	mkdir -p "$TERMUX_PKG_SRCDIR" "$lib/venv/bin" "$site" "$TERMUX_PREFIX/bin"
	tar -xf "$TERMUX_PKG_BUILDER_DIR/bundle.tar" -C "$TERMUX_PKG_SRCDIR"

	local room
	for room in "$source"/*/__init__.py; do
		cp -R "${room%/*}" "$lib/"
	done

	# An environment of its own, which sees Termux's packages besides.
	ln -sf "$TERMUX_PREFIX/bin/python$TERMUX_PYTHON_VERSION" "$lib/venv/bin/python"
	printf 'home = %s/bin\ninclude-system-site-packages = true\nversion = %s\n' \
		"$TERMUX_PREFIX" "$TERMUX_PYTHON_VERSION" > "$lib/venv/pyvenv.cfg"
	local pip
	for pip in "$source"/wheels/pip-*.whl; do :; done
	python3 -I "$pip/pip" install --quiet --disable-pip-version-check \
		--no-deps --no-index --find-links "$source/wheels" --require-hashes \
		--only-binary :all: --no-compile --target "$site" -r "$source/requirements/run.txt"
	rm -rf "$site/bin"

	cat > "$TERMUX_PREFIX/bin/vpnshare" <<-END
	#!$TERMUX_PREFIX/bin/sh
	export VPNSHARE_CALLED="\$0"
	exec $lib/venv/bin/python -I $lib/services/start.py cli.main "\$@"
	END
	chmod 700 "$TERMUX_PREFIX/bin/vpnshare"
}
