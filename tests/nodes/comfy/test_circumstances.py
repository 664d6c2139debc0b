"""What surrounds a capture in real graphs: LoRA after it, other precisions, threads, offloading, two passes."""

import threading

import comfy.patcher_extension
import comfy.sd
import comfy.supported_models
import pytest
import tiny_graphs
import torch
from asked import maps
from mechanisms import assert_maps_equal, capture, measure

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

TEXT, PICTURE, REFERENCE = 7, range(7, 19), range(19, 27)


@pytest.fixture
def kontext():
    return tiny_graphs.flux_kontext(sizes=((4, 8),), cfg=3.0, batch=2)


def check(graph):
    attribution = capture(graph)
    assert_maps_equal(attribution, measure(graph, PICTURE), 0, REFERENCE)
    return attribution


def lora(model):
    """A LoRA on the queries, keys and values of the first block."""
    g = torch.Generator().manual_seed(5)
    down, up = torch.randn(4, 32, generator=g), torch.randn(96, 4, generator=g)
    name = "diffusion_model.double_blocks.0.img_attn.qkv"
    weights = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]


def test_a_lora_after_capture_is_part_of_what_is_captured(kontext):
    """The loader clones the captured model: the clone must write to the same handle."""
    watched, handle = I2AMCapture.execute(kontext.model, "auto", "positive", "off", 512).args
    output = kontext.sample(lora(watched))
    attribution = I2AMCollect.execute(handle, output).args[0]
    plain = capture(kontext)
    kontext.model = lora(kontext.model)
    assert torch.equal(output["samples"], kontext.sample()["samples"])
    assert_maps_equal(attribution, measure(kontext, PICTURE), 0, REFERENCE)
    assert not torch.allclose(maps(attribution, "r2g").values, maps(plain, "r2g").values, rtol=1e-3)


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_weights_of_other_precisions(kontext, weights):
    """Stored small, and computed in bfloat16: q and k arrive in half precision, maps are float32."""
    config = comfy.supported_models.Flux(dict(kontext.model.model.model_config.unet_config))
    config.set_inference_dtype(weights, torch.bfloat16)
    model = config.get_model({}, device=torch.device("cpu")).eval()
    small = {name: x.to(weights) for name, x in kontext.model.model.diffusion_model.state_dict().items()}
    model.diffusion_model.load_state_dict(small)
    kontext.model = type(kontext.model)(model, torch.device("cpu"), torch.device("cpu"))
    attribution = capture(kontext)
    assert attribution.layer_maps(0, 0).maps["r2g_share"].dtype == torch.float32
    assert_maps_equal(attribution, measure(kontext, PICTURE), 0, REFERENCE)


def test_a_call_of_the_model_in_a_thread_of_its_own(kontext):
    """As cores with several GPUs make them: what is known of a call belongs to its thread."""

    def threaded(apply_model, given):
        result = []

        def work():
            with torch.inference_mode(torch.is_inference_mode_enabled()):
                result.append(apply_model(given["input"], given["timestep"], **given["c"]))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return result[0]

    kontext.model = kontext.model.clone()
    kontext.model.set_model_unet_function_wrapper(threaded)
    check(kontext)


def test_weights_that_stay_offloaded_until_they_are_used(kontext):
    """Low memory: the host moves the weights of a layer only when the layer runs."""

    def offload(executor, *args, **kwargs):
        patcher = executor.class_obj.model_patcher
        patcher.unpatch_model(torch.device("cpu"))
        patcher.load(torch.device("cpu"), lowvram_model_memory=1)
        assert any(getattr(part, "comfy_cast_weights", False) for part in patcher.model.modules())
        return executor(*args, **kwargs)

    kontext.model = kontext.model.clone()
    kontext.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "offload", offload)
    check(kontext)


def test_a_second_pass_is_a_run_of_its_own(kontext):
    """Sampled, enlarged, and sampled again at a lower denoise, with one Capture."""
    watched, handle = I2AMCapture.execute(kontext.model, "auto", "positive", "off", 512).args
    first = kontext.sample(watched)
    kontext.latent = {"samples": torch.nn.functional.interpolate(first["samples"], scale_factor=2)}
    second = kontext.sample(watched, steps=3, denoise=0.6)
    one, two = (I2AMCollect.execute(handle, out).args[0] for out in (first, second))
    assert (one.grid.height * 2, one.grid.width * 2) == (two.grid.height, two.grid.width)
    assert (one.steps, two.steps) == (2, 3)
    assert maps(two, "r2g").values.shape[-1] == 2 * maps(one, "r2g").values.shape[-1]


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2s_ancestral", "uni_pc"])
def test_samplers_that_evaluate_more_than_once_a_step(kontext, sampler):
    attribution = capture(kontext, sampler_name=sampler, steps=3)
    assert attribution.steps == 3
    assert attribution.layer_maps(0, 0).seen.tolist() == [1, 1, 1]
