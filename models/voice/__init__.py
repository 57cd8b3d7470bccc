"""Voice clips: bytes → 16 kHz waveform → log-mel frames → vector and heads.

``encoder``      :class:`VoiceEncoder`, and the table of architectures
``decode``       untrusted bytes → a short waveform, within limits
``container``    checks that an audio file is whole
``mel``          waveforms → log-mel frames
``network``      what every voice network shares: convolutions, projection, heads
``gru``          the recurrent network that ships
``cnn``          convolutions alone
``transformer``  convolutions and a Transformer encoder
``pretrained``   a frozen audio model from a local folder
"""
