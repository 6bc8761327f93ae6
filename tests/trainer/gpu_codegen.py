"""What Inductor would launch on a GPU, found out on a machine without one. Prints one JSON object.

1. Each part that the trainer compiles (embedding, three blocks, head), in its real precision and with flash attention,
   is traced whole on `meta`, forward and backward, and partitioned by Inductor's own front.
2. The graphs' inputs become fake CUDA tensors, and Inductor's code generation runs for an H100.
3. The launches in the generated programs are counted, and every generated Triton kernel goes through Triton and ptxas.

All of that hangs on private interfaces of the pinned torch, and pretends that there is a GPU: hence this file, and a
process of its own.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch._functorch.config
from torch import fx
from torch._inductor.compile_fx import (
    _recursive_post_grad_passes,
    compile_fx,
    record_original_output_strides,
    view_to_reshape,
)
from torch._inductor.debug import DebugContext
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from trainer.config import ModelSettings
from trainer.model.attention import make_attention
from trainer.model.encoder import Encoder
from trainer.recipes import RECIPES

ROWS, LENGTH, TARGETS, VOCABULARY = 8, 1024, 2048, 50_368
CUDA = torch.device("cuda", 0)
H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    L2_cache_size=50 << 20,
    gcnArchName="",  # asked for where torch has no CUDA
)


class Graph(NamedTuple):
    part: str
    backward: bool
    module: fx.GraphModule


def trace() -> list[Graph]:
    """Forward and backward graphs of every compiled part. A graph break is an error: fullgraph."""
    shape = ModelSettings(**RECIPES["base"]()["model"]).model_copy(update={"layers": 4})
    places, width = ROWS * LENGTH, shape.width
    attention = make_attention("varlen", rows=ROWS, length=LENGTH, window=shape.window)
    with torch.device("meta"):
        model = Encoder(shape, VOCABULARY, length=LENGTH, attention=attention, compute=torch.bfloat16)
        ids = torch.empty(places, dtype=torch.int32)
        borders = torch.empty(ROWS * LENGTH // 32 + 1, dtype=torch.int32)
        x_TD = torch.empty(places, width, requires_grad=True)
        x_ND = torch.empty(TARGETS, width, requires_grad=True)
        tables = (torch.empty(places, shape.head_dim // 2), torch.empty(places, shape.head_dim // 2))
    layout = attention.layout(ids, borders)
    parts = {
        "embed": (model.embed, (ids,)),
        "first block": (model.blocks[0], (x_TD, None, *tables, layout)),
        "local block": (model.blocks[1], (x_TD, x_TD, *tables, layout)),
        "global block": (model.blocks[3], (x_TD, x_TD, *tables, layout)),
        "features": (model.features, (x_ND,)),
    }
    graphs: list[Graph] = []
    for part, (function, inputs) in parts.items():

        def keep(module, _, part=part, **options):
            graphs.append(Graph(part, bool(options.get("is_backward")), module))

            def run(arguments):
                return module(*arguments)

            run._boxed_call = True
            return run

        torch._dynamo.reset()
        compiled = torch.compile(
            function,
            backend=lambda m, i, keep=keep: compile_fx(m, i, inner_compile=keep),
            fullgraph=True,
            dynamic=False,
        )
        outputs = compiled(*inputs)
        total = outputs.sum() if isinstance(outputs, torch.Tensor) else sum(output.sum() for output in outputs)
        total.backward()
    return graphs


def pretend_there_is_a_gpu() -> None:
    import torch.utils._triton
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.runtime import triton_helpers
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    answers = {
        "get_device_properties": H100,
        "get_device_capability": (H100.major, H100.minor),
        "is_available": True,
        "current_device": 0,
        "device_count": 1,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer: answer)
        setattr(CudaInterface, name, staticmethod(getattr(torch.cuda, name)))
    for function in vars(torch.utils._triton).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    triton_helpers.set_driver_to_gpu = lambda: None  # generated kernels call it when they are imported
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", 90, 32),
            get_current_device=lambda: 0,
            get_active_torch_device=lambda: CUDA,
        )
    )


def generate(graph: Graph, mode: FakeTensorMode) -> tuple[str, int]:
    """Inductor's program for a graph, as if its inputs lay on a GPU, and the bytes that its own kernels read and write.

    Products and attention are not Inductor's own.
    """
    module = graph.module

    def on_gpu(value):
        if not isinstance(value, torch.Tensor):
            return value
        return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=CUDA)

    with mode:
        for node in module.graph.nodes:
            if "val" in node.meta:
                node.meta["val"] = pytree.tree_map(on_gpu, node.meta["val"])
            if "device" in node.kwargs:
                node.kwargs = node.kwargs | {"device": CUDA}
    inputs = [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]
    with V.set_fake_mode(mode):
        record_original_output_strides(module)
        view_to_reshape(module)
        _recursive_post_grad_passes(module, is_inference=False)
        lowering = GraphLowering(module, example_inputs=inputs, is_backward=graph.backward)
        with V.set_graph_handler(lowering), V.set_debug_handler(DebugContext()), V.set_extern_kernel_nodes([]):
            lowering.run(*inputs)
            program = lowering.codegen()[0].value
            own = [node for node in lowering.scheduler.nodes if not node.is_extern()]
            return program, sum(node.get_read_write_buffers_sizes() for node in own)


LAUNCHES = {  # of a line in a generated program
    "triton": r"triton_\w+\.run\(",
    "products": r"extern_kernels\.\w*mm\(",
    "attention": r"\w+ = torch\.ops\.torch_attn\._varlen_attn(_backward)?\.default\(",
    "sums": r"\w+ = workspace_\d+\[.*\]\.view\(.*\)\.sum\(dim=0\)",
    "fills": r"workspace_\d+\.zero_\(",
}
NO_LAUNCH = (
    r"def call|assert_|del |raw_stream|with torch\.cuda|torch\.cuda\.set_device|return |args\.clear|[\w, ]+ = args$"
    r"|\w+ = empty_strided|\w+ = (buf\d+|\w+_\d+)(\[\d+\])?(;|$)|\w+ = reinterpret_tensor"
)


def saved_bytes(module: fx.GraphModule) -> int:
    """What a forward graph leaves for the next layer and for its backward pass, without parameters and their copies."""
    nodes = list(module.graph.nodes)
    given = {node.meta["val"].untyped_storage()._cdata for node in nodes if node.op == "placeholder"}
    made = {}
    for node in pytree.arg_tree_leaves(nodes[-1].args):
        value = node.meta["val"] if isinstance(node, fx.Node) else None
        if isinstance(value, torch.Tensor) and ROWS * LENGTH in value.shape:
            storage = value.untyped_storage()
            if storage._cdata not in given:
                made[storage._cdata] = storage.nbytes()
    return sum(made.values())


def launches(program: str) -> dict[str, int]:
    """How many kernels of each kind the program starts. A line that is not understood is an error."""
    body = program[program.index("def call(self, args)") : program.index("runner = Runner")]
    counted: Counter[str] = Counter()
    for line in body.splitlines():
        code = line.split("#")[0].strip()
        kinds = [kind for kind, pattern in LAUNCHES.items() if re.match(pattern, code)]
        if kinds:
            counted[kinds[0]] += 1
        elif code and not re.match(NO_LAUNCH, code):
            raise AssertionError(f"a line of the generated program that no pattern knows: {code}")
    return dict(counted)


def compile_kernels(programs: list[str], capabilities: list[int], folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of machine code for each distinct Triton kernel and capability, in its first configuration."""
    import triton
    from torch._inductor.runtime.hints import DeviceProperties
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    sources: dict[str, str] = {}
    for program in programs:
        for name, source in re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)''', device_str", program, re.S):
            without_name = source.replace(name, "kernel")
            sources.setdefault(re.sub(r"backend_hash': '\w+'", "", without_name), source.replace(name, "kernel"))
    sizes: dict[str, dict[str, int]] = {}
    for number, source in enumerate(sources.values()):
        path = folder / f"kernel_{number}.py"
        path.write_text(source)
        spec = spec_from_file_location(path.stem, path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        tuner = module.kernel
        config = tuner.configs[0]
        meta = tuner._create_compile_meta(config)
        options = tuner._create_compile_options(config, meta)
        assert isinstance(tuner.device_props, DeviceProperties)
        for capability in capabilities:
            built = triton.compile(
                ASTSource(tuner.fn, meta["signature"], meta["constants"], meta["configs"][0]),
                target=GPUTarget("cuda", capability, 32),
                options=options,
            )
            assert f"sm_{capability}" in built.asm["ptx"]
            assert built.asm["cubin"][:4] == b"\x7fELF"
            sizes.setdefault(path.stem, {})[f"sm_{capability}"] = len(built.asm["cubin"])
    return sizes


def main(capabilities: list[int]) -> None:
    torch._functorch.config.enable_autograd_cache = False
    torch._inductor.config.joint_graph_constant_folding = False
    graphs = trace()
    pretend_there_is_a_gpu()
    mode = FakeTensorMode()
    programs: list[str] = []
    counted: dict[str, dict[str, dict[str, int]]] = {}
    moved: dict[str, dict[str, float]] = {}
    saved = {graph.part: saved_bytes(graph.module) / (ROWS * LENGTH) for graph in graphs if not graph.backward}
    for graph in graphs:
        program, num_bytes = generate(graph, mode)
        programs.append(program)
        direction = "backward" if graph.backward else "forward"
        counted.setdefault(graph.part, {})[direction] = launches(program)
        moved.setdefault(graph.part, {})[direction] = num_bytes / (ROWS * LENGTH)
    with tempfile.TemporaryDirectory() as folder:
        kernels = compile_kernels(programs, capabilities, Path(folder)) if capabilities else {}
    print(json.dumps({"launches": counted, "bytes_per_place": moved, "saved_per_place": saved, "kernels": kernels}))


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]])
