# One image for both services: the app (the default command) and the storage (see compose.yaml).
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt requirements-server.txt ./
RUN pip install --no-cache-dir --no-deps -r requirements-server.txt
COPY . .
RUN useradd --create-home app && mkdir /data && chown app /data
USER app
ENV LEANSTORAGE_DATA=/data PYTHONUNBUFFERED=1
VOLUME /data
CMD ["python", "wsgi.py"]
