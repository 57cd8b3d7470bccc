"""Photos: bytes → RGB pixels of one size → vector and heads.

``encoder``      :class:`ImageEncoder`, and the table of architectures
``decode``       untrusted bytes → pixels, within limits
``jpeg``         the parts of a JPEG that make its picture
``container``    the same of PNG and WebP
``orientation``  which way up a photo is, by EXIF or XMP
``network``      what every image network shares: projection and heads
``resnet``       the residual network that ships
``pretrained``   a frozen vision model from a local folder
"""
