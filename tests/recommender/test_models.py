import pytest
import torch
from transformers import AutoModel, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from pipeline.recommender.fpmc import FPMC, NOBODY
from pipeline.recommender.gru4rec import GRU4Rec
from pipeline.recommender.item_table import FeatureTable, IdTable, SumTable
from pipeline.recommender.llm import decoder_of, load_decoder, save_decoder
from pipeline.recommender.sasrec import SASRec
from pipeline.recommender.second_token import SecondToken


def tiny_mirm(directory):
    """A random Qwen2-VL with two decoder layers, saved as a published checkpoint would be."""
    text = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 32, "vocab_size": 40, "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 16, "patch_size": 14, "mlp_ratio": 2}
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def mirm(tmp_path_factory):
    return tiny_mirm(tmp_path_factory.mktemp("mirm"))


@pytest.fixture(params=["pre start", "post start", "pre end", "gru4rec", "fpmc", "llm"])
def model(request, mirm):
    torch.manual_seed(0)
    if request.param == "llm":
        return decoder_of(mirm, pretrained=True, dropout=0.3).eval()
    if request.param == "gru4rec":
        return GRU4Rec(16, 24, 2, 0.3).eval()
    if request.param == "fpmc":
        return FPMC(8, 3).eval()
    return SASRec(16, 2, 2, 0.3, *request.param.split(), 12).eval()


def ends(items, last=None):
    """Every row's last real position, and whose it is."""
    return torch.full((len(items),), items.shape[1] - 1 if last is None else last), torch.arange(len(items))


def test_a_position_sees_nothing_after_itself(model):
    torch.manual_seed(1)
    items = torch.randn(2, 8, 16)
    changed = items.clone()
    changed[:, 5] = torch.randn(2, 16)
    difference = (model(items, *ends(items)) - model(changed, *ends(changed))).abs().amax((0, 2))
    assert difference[:5].max() == 0 and difference[5] > 0
    assert (difference[6:] > 0).all() != isinstance(model, FPMC)  # whose memory is one item


def test_right_padding_does_not_change_real_positions(model):
    torch.manual_seed(1)
    items = torch.randn(3, 4, 16)
    longer = torch.cat([items, torch.randn(3, 5, 16)], 1)
    ending = ends(items)
    torch.testing.assert_close(model(longer, *ending)[:, :4], model(items, *ending), rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_only(model):
    items = torch.randn(2, 6, 16)
    assert torch.equal(model(items, *ends(items)), model(items, *ends(items)))
    model.train()
    assert isinstance(model, FPMC) or not torch.equal(model(items, *ends(items)), model(items, *ends(items)))


@pytest.mark.parametrize(("count_from", "same"), [("start", [0, 1, 2]), ("end", [9, 10, 11])])
def test_the_position_that_two_windows_of_different_length_share(count_from, same):
    """Counted from the start their first items, from the end their last ones."""
    torch.manual_seed(0)
    model = SASRec(16, 1, 2, 0.0, "pre", count_from, 12).eval()
    found = []
    for length in (3, 8):
        items = torch.zeros(1, length, 16)
        model.position.grad = None
        model(items, *ends(items))[0].square().sum().backward()
        found.append(set(model.position.grad.abs().sum(1).nonzero().flatten().tolist()))
    assert sorted(found[0] & found[1]) == same


def test_fpmc_scores_what_the_user_likes_and_what_follows():
    torch.manual_seed(0)
    model, table = FPMC(3, 2), torch.randn(7, 6)
    torch.nn.init.normal_(model.likes)
    users = model(table[torch.tensor([[4, 2]])], None, torch.tensor([1]))[0, 1]
    for item in range(7):
        likes = model.likes[2] @ table[item, :3]
        follows = (model.follows.weight @ table[2]) @ table[item, 3:]
        assert (users @ table[item]).item() == pytest.approx((likes + follows).item(), rel=1e-5)


def test_fpmc_gives_a_history_that_is_nobody_s_the_markov_chain_alone():
    torch.manual_seed(0)
    model, items = FPMC(3, 2), torch.randn(2, 4, 6)
    model(items, None, torch.tensor([0, 1])).sum().backward()
    assert model.likes.grad[0].abs().sum() == 0 and (model.likes.grad[1:].abs().sum(1) > 0).all()
    with torch.no_grad():
        model.likes -= model.likes.grad
    nobody = model(items, None, torch.tensor([NOBODY, NOBODY]))
    assert nobody[..., :3].abs().sum() == 0
    assert torch.equal(nobody[..., 3:], model(items, None, torch.tensor([0, 1]))[..., 3:])


def test_gru4rec_is_the_gates_of_its_paper():
    torch.manual_seed(0)
    model, items = GRU4Rec(4, 3, 1, 0.0).eval(), torch.randn(1, 5, 4)
    into_r, into_z, into_h = model.gru.weight_ih_l0.split(3)
    from_r, from_z, from_h = model.gru.weight_hh_l0.split(3)
    state = torch.zeros(3)
    for x in items[0]:
        reset, stay = torch.sigmoid(into_r @ x + from_r @ state), torch.sigmoid(into_z @ x + from_z @ state)
        state = stay * state + (1 - stay) * torch.tanh(into_h @ x + reset * (from_h @ state))
    torch.testing.assert_close(model(items, None, None)[0, -1], model.out(state))


def test_the_decoder_carries_the_mirms_weights_or_fresh_ones(mirm):
    original = Qwen2VLForConditionalGeneration.from_pretrained(mirm, dtype=torch.float32).get_decoder().state_dict()
    loaded = decoder_of(mirm, pretrained=True, dropout=0.0).body.state_dict()
    shared = [name for name in original if "embed_tokens" not in name]
    assert len(shared) > 10 and all(torch.equal(original[name], loaded[name]) for name in shared)
    fresh = decoder_of(mirm, pretrained=False, dropout=0.0).body.state_dict()
    assert not torch.equal(fresh["layers.0.mlp.up_proj.weight"], original["layers.0.mlp.up_proj.weight"])


def test_a_saved_decoder_opens_in_plain_transformers(mirm, tmp_path):
    decoder = decoder_of(mirm, pretrained=True, dropout=0.3).eval()
    save_decoder(decoder, tmp_path)
    items = torch.randn(2, 5, 16)
    vectors = decoder(items, None, None)
    torch.testing.assert_close(load_decoder(tmp_path).eval()(items, None, None), vectors, rtol=0, atol=0)
    plain = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    torch.testing.assert_close(plain(inputs_embeds=items).last_hidden_state, vectors, rtol=0, atol=0)


def test_an_id_table_has_zeros_for_cold_items_and_a_feature_table_has_vectors():
    ids, features = IdTable(5, 3, 4), FeatureTable(torch.randn(5, 6), 3, 4, "two-layer", 8, 0.0)
    assert ids.everything()[3:].abs().sum() == 0 and torch.equal(ids.everything()[:3], ids.trained())
    assert features.everything()[3:].abs().sum() > 0
    torch.testing.assert_close(features.everything()[:3], features.trained())


@pytest.mark.parametrize("kind", ["linear", "two-layer"])
def test_a_sum_of_ids_and_content_is_content_alone_for_cold_items(kind):
    torch.manual_seed(0)
    ids, content = IdTable(5, 3, 4), FeatureTable(torch.randn(5, 6), 3, 4, kind, 8, 0.0)
    both = SumTable(ids, content)
    torch.testing.assert_close(both.trained(), ids.weight + content.trained())
    assert torch.equal(both.everything()[3:], content.everything()[3:])
    torch.testing.assert_close(both.everything()[:3], both.trained())
    line = content.features_NF[0] + content.features_NF[1]
    bend = content.head(line) - content.everything()[0] - content.everything()[1] + content.head(torch.zeros(6))
    assert (bend.abs().max() < 1e-5) == (kind == "linear")


def test_a_second_token_stands_after_each_item_and_is_read():
    torch.manual_seed(0)
    second = SecondToken(torch.randn(7, 3), 4)
    items, inputs = torch.randn(2, 5, 4), torch.randint(0, 7, (2, 5))
    tokens = second(items, inputs)
    assert torch.equal(tokens[:, ::2], items) and tokens.shape == (2, 10, 4)
    torch.testing.assert_close(tokens[1, 7], second.map(second.vectors_NE[inputs[1, 3]]))
