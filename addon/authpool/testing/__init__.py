"""What a plugin must pass: a conformance kit for pytest, for rotations, token sources, injectors and stores.

Subclass the class for what the plugin provides, and give it what to test; each module shows how. It needs the extra
``authpool[testing]``.
"""
