"""The live page: what a browser shows at `/`. HTML, CSS and JavaScript as they are sent, without a build step."""
