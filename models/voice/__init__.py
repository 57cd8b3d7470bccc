"""Voice clips: bytes → 16 kHz waveform → log-mel frames → vector and heads.

``encoder``      :class:`VoiceEncoder`, and the table of architectures
``decode``       untrusted bytes → a short waveform, within limits
``container``    an audio file → whole, of its true length, without tags
``wav``          its part for WAV
``flac``         for FLAC
``ogg``          for Ogg
``mpeg``         for MP3
``tags``         what may stand behind a sound
``hush``         keeps C libraries from printing
``mel``          waveforms → log-mel frames
``network``      what every voice network shares: convolutions, projection, heads
``gru``          the recurrent network that ships
``cnn``          convolutions alone
``transformer``  convolutions and a Transformer encoder
``pretrained``   a frozen audio model from a local folder
"""
