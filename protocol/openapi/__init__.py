"""What this server serves, told in OpenAPI 3.1 and as a page: https://spec.openapis.org/oas/v3.1.1.html"""
