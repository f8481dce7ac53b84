"""One model for each kind of recurrent layer, with each of its options, masks, states and wrappers."""

from __future__ import annotations

from making import FEATURES, MORE_UNITS, STEPS, UNITS, VOCABULARY, Whole, ids, masked_numbers, numbers


def lstm_options(k):
    """Each option that changes what an LSTM computes, and some that must change nothing."""
    lstm = k.layers.LSTM
    some = [
        lstm(UNITS, return_sequences=True, name="sequences"),
        lstm(UNITS, go_backwards=True, return_sequences=True, name="backwards"),
        lstm(UNITS, return_sequences=True, return_state=True, name="states"),
        lstm(UNITS, use_bias=False, name="no_bias"),
        lstm(UNITS, recurrent_activation="hard_sigmoid", name="hard_sigmoid"),
        lstm(UNITS, recurrent_activation="sigmoid", implementation=1, name="implementation"),
        lstm(FEATURES, activation="relu", name="square_relu"),
        lstm(MORE_UNITS, unroll=True, activation="softsign", name="unrolled"),
    ]
    return Whole(k.fan(*some), [numbers()])


def lstm_any_length(k):
    """Batch and steps are open; the states of a backwards LSTM are returned."""
    lstm = k.layers.LSTM(UNITS, go_backwards=True, return_state=True)
    return Whole(k.fan(lstm, shape=(None, FEATURES)), [numbers()])


def lstm_stateful(k):
    """Call twice without a reset: the second call begins where the first ended."""
    layers = k.layers
    some = [layers.LSTM(UNITS, stateful=True, return_sequences=True, name="stateful")]
    if k.generation > 2:
        some.append(layers.GRU(UNITS, stateful=True, name="stateful_gru"))
    return Whole(k.fan(*some, batch=3), [numbers()], runs=2)


def lstm_time_major(k):
    lstm = k.layers.LSTM
    some = [lstm(UNITS, time_major=True, return_sequences=True), lstm(MORE_UNITS, time_major=True)]
    return Whole(k.fan(*some, shape=(5, FEATURES), batch=5), [numbers(5, FEATURES, batch=5)])


def rnn_of_cells(k):
    """RNN of an LSTMCell, of a list of two, of GRUCell and SimpleRNNCell."""
    layers = k.layers
    some = [layers.RNN(layers.LSTMCell(UNITS), return_sequences=True, name="one_cell")]
    if k.generation > 2:
        cells = [layers.LSTMCell(UNITS), layers.LSTMCell(MORE_UNITS, use_bias=False)]
        some.append(layers.RNN(cells, return_sequences=True, name="two_cells"))
        stack = layers.StackedRNNCells([layers.LSTMCell(MORE_UNITS), layers.LSTMCell(UNITS)])
        some.append(layers.RNN(stack, go_backwards=True, name="backwards"))
    some.append(layers.RNN(layers.GRUCell(UNITS), name="gru_cell"))
    some.append(layers.RNN(layers.SimpleRNNCell(UNITS), name="simple_cell"))
    return Whole(k.fan(*some), [numbers()])


def rnn_of_cells_states(k):
    layers = k.layers
    cells = [layers.LSTMCell(UNITS), layers.LSTMCell(MORE_UNITS)]
    return Whole(k.fan(layers.RNN(cells, return_sequences=True, return_state=True)), [numbers()])


def gru(k):
    gru = k.layers.GRU
    some = [
        gru(UNITS, return_sequences=True, name="sequences"),
        gru(UNITS, reset_after=False, name="reset_before"),
        gru(UNITS, reset_after=True, go_backwards=True, return_sequences=True, name="reset_after"),
        gru(UNITS, use_bias=False, reset_after=True, return_state=True, name="no_bias"),
        gru(FEATURES, recurrent_activation="hard_sigmoid", name="square_hard_sigmoid"),
        gru(MORE_UNITS, activation="relu", reset_after=False, use_bias=False, implementation=1, name="relu"),
    ]
    return Whole(k.fan(*some), [numbers()])


def simple_rnn(k):
    rnn = k.layers.SimpleRNN
    some = [
        rnn(UNITS, return_sequences=True, name="sequences"),
        rnn(UNITS, go_backwards=True, activation="relu", name="backwards"),
        rnn(FEATURES, use_bias=False, return_state=True, name="square"),
    ]
    return Whole(k.fan(*some), [numbers()], gain=0.3)


# --- both directions --------------------------------------------------------------------------------------------


def both_ways(k, kind, **options):
    """Every merge mode, with and without sequences."""
    layers, cell = k.layers, getattr(k.layers, kind)
    some = [
        layers.Bidirectional(cell(MORE_UNITS, return_sequences=steps, **options), merge_mode=mode)
        for mode, steps in (("concat", True), ("concat", False), ("sum", True), ("mul", False), ("ave", True))
    ]
    one = layers.Bidirectional(cell(UNITS, return_sequences=True, **options), merge_mode=None)
    return some, one


def bidirectional_lstm(k):
    some, one = both_ways(k, "LSTM")
    return Whole(k.fan(*some, one), [numbers()])


def bidirectional_gru(k):
    some, one = both_ways(k, "GRU")
    return Whole(k.fan(*some[:2], some[2], one), [numbers()])


def bidirectional_simple_rnn(k):
    some, _ = both_ways(k, "SimpleRNN", activation="relu")
    return Whole(k.fan(*some[:2]), [numbers()])


def bidirectional_states(k):
    layers = k.layers
    some = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True, return_state=True))
    return Whole(k.fan(some), [numbers()])


def bidirectional_own_backward(k):
    """Give a Bidirectional a backward layer of its own: other units, other activations, no bias."""
    layers = k.layers
    backward = layers.LSTM(MORE_UNITS, return_sequences=True, go_backwards=True, use_bias=False, activation="relu")
    other = layers.GRU if k.generation == 3 else layers.LSTM
    mixed = other(UNITS, go_backwards=True, activation="softsign")
    some = [
        layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), backward_layer=backward),
        layers.Bidirectional(layers.LSTM(UNITS), backward_layer=mixed, merge_mode="sum"),
    ]
    return Whole(k.fan(*some), [numbers()])


def bidirectional_backwards(k):
    """Wrap an LSTM that already goes backwards."""
    layers = k.layers
    return Whole(k.fan(layers.Bidirectional(layers.LSTM(UNITS, go_backwards=True, return_sequences=True))), [numbers()])


def bidirectional_frozen(k):
    """One half is untrainable, so that Keras stores its arrays after the other's."""
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="x")
    wrapped = layers.Bidirectional(layers.LSTM(FEATURES, return_sequences=True), name="both_ways")
    y = wrapped(x)
    wrapped.forward_layer.trainable = False
    return Whole(k.model(x, layers.Dense(2)(y)), [numbers()])


# --- masks ------------------------------------------------------------------------------------------------------


def mask_lstm(k):
    """Rows: whole, padded right, padded left, with holes, all masked. The padding value is not 0."""
    layers = k.layers
    some = [
        layers.LSTM(UNITS, return_sequences=True, name="sequences"),
        layers.LSTM(UNITS, name="last"),
        layers.LSTM(UNITS, return_sequences=True, go_backwards=True, name="backwards"),
        layers.LSTM(MORE_UNITS, return_sequences=True, return_state=True, name="states"),
    ]
    return Whole(k.fan(*some, before=[layers.Masking(mask_value=-2.0)]), [masked_numbers(value=-2.0)])


def mask_others(k):
    layers = k.layers
    some = [
        layers.GRU(UNITS, return_sequences=True, name="gru"),
        layers.GRU(UNITS, reset_after=False, go_backwards=True, name="gru_backwards"),
        layers.SimpleRNN(UNITS, return_sequences=True, name="simple"),
    ]
    if k.generation > 2:
        some.append(layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3)], return_sequences=True, name="cells"))
    return Whole(k.fan(*some, before=[layers.Masking()]), [masked_numbers()])


def mask_bidirectional(k):
    layers = k.layers
    some = [
        layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), name="sequences"),
        layers.Bidirectional(layers.LSTM(UNITS), name="last"),
        layers.Bidirectional(layers.LSTM(MORE_UNITS, return_sequences=True), merge_mode="sum", name="added"),
    ]
    if k.generation > 2:
        some.append(layers.Bidirectional(layers.GRU(MORE_UNITS, return_sequences=True), name="gru"))
    return Whole(k.fan(*some, before=[layers.Masking()]), [masked_numbers()])


def mask_zero_output(k):
    """Masked steps give 0 instead of the output before."""
    layers = k.layers
    some = [
        layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=True, name="sequences"),
        layers.LSTM(UNITS, zero_output_for_mask=True, name="last"),
        layers.GRU(UNITS, return_sequences=True, zero_output_for_mask=True, name="gru"),
        layers.Bidirectional(
            layers.LSTM(MORE_UNITS, return_sequences=True, zero_output_for_mask=True), name="both_ways"
        ),
    ]
    return Whole(k.fan(*some, before=[layers.Masking()]), [masked_numbers()])


def mask_embedding(k):
    """Build a tagger: ids with 0 as padding, and layers that hand the mask on."""
    layers = k.layers
    x = k.input(STEPS, name="tokens")
    tensor = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True, name="embedding")(x)
    tensor = layers.Dropout(0.2)(tensor)
    tensor = layers.Activation("tanh")(tensor)
    tensor = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(tensor)
    tensor = layers.TimeDistributed(layers.Dense(FEATURES))(tensor)
    last = layers.LSTM(MORE_UNITS, name="last")(tensor)
    return Whole(k.model(x, [tensor, last, layers.Dense(2, activation="softmax")(last)]), [ids()])


def mask_stateful(k):
    layers = k.layers
    x = k.input(STEPS, name="tokens", batch=5)
    tensor = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True, name="embedding")(x)
    return Whole(k.model(x, layers.LSTM(UNITS, stateful=True, return_sequences=True)(tensor)), [ids()], runs=2)


# --- TimeDistributed --------------------------------------------------------------------------------------------


def time_distributed(k):
    layers = k.layers
    each = layers.TimeDistributed
    video = k.input(3, 7, 5, 2, name="video")
    tensor = each(layers.Conv2D(5, (3, 2), padding="same", activation="relu"))(video)
    tensor = each(layers.MaxPooling2D(2))(tensor)
    tensor = each(layers.BatchNormalization())(tensor)
    tensor = each(layers.Flatten())(tensor)
    outputs = [each(layers.Dense(3, activation="softmax"))(tensor), layers.LSTM(UNITS)(tensor)]
    pages = k.input(2, STEPS, FEATURES, name="pages")
    outputs += [each(layers.LSTM(UNITS))(pages), each(layers.LSTM(MORE_UNITS, return_sequences=True))(pages)]
    outputs.append(each(layers.Conv1D(2, 3, padding="same"))(pages))
    return Whole(k.model([video, pages], outputs), [numbers(3, 7, 5, 2), numbers(2, STEPS, FEATURES)])


def time_distributed_model(k):
    layers = k.layers
    inner = (
        k.sequential(layers.Dense(UNITS, activation="tanh", input_shape=(FEATURES,)), layers.Dense(FEATURES))
        if (k.generation < 3)
        else k.sequential(layers.Dense(UNITS, activation="tanh"), layers.Dense(FEATURES), shape=(FEATURES,))
    )
    frame = k.input(STEPS, FEATURES, name="page")
    encoder = k.model(frame, layers.LSTM(MORE_UNITS, name="reader")(frame), name="encoder")
    x, pages = k.input(STEPS, FEATURES, name="x"), k.input(2, STEPS, FEATURES, name="pages")
    outputs = [
        layers.TimeDistributed(inner, name="over_sequential")(x),
        layers.TimeDistributed(encoder, name="over_model")(pages),
    ]
    return Whole(k.model([x, pages], outputs), [numbers(), numbers(2, STEPS, FEATURES)])


# --- cuDNN's layers ---------------------------------------------------------------------------------------------


def cudnn(k, lstm, gru, **options):
    """Models of CuDNNLSTM and CuDNNGRU, or of the plain layers that compute the same (`reset_after` for GRU)."""
    layers = k.layers
    some = [
        lstm(FEATURES, return_sequences=True, name="square"),
        lstm(UNITS, go_backwards=True, name="backwards"),
        layers.Bidirectional(lstm(MORE_UNITS, return_sequences=True), name="both_ways"),
        gru(UNITS, return_sequences=True, name="gru", **options),
        gru(FEATURES, name="gru_square", **options),
    ]
    return k.fan(*some), [numbers()]
