-- As docs/operations.md asks for them: what indexes hold are ids, compared byte by byte.
CREATE DATABASE conversation TEMPLATE template0 LOCALE 'C';
CREATE DATABASE connect TEMPLATE template0 LOCALE 'C';
CREATE DATABASE registry TEMPLATE template0 LOCALE 'C';
CREATE DATABASE privacy TEMPLATE template0 LOCALE 'C';
