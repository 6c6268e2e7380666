"""Small tools for developers; each says at its top what it is for."""
